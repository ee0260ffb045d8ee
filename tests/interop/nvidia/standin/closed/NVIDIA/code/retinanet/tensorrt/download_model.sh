mkdir -p "${MLPERF_SCRATCH_PATH:?not set}/models"
echo "Found model in ${MLPERF_SCRATCH_PATH}/models"
