// Collects a batch: row i of `target` becomes row rows[i] of the staged samples.
//
// The block of parameters lies in pinned host memory, so that a captured graph reads new rows and a new base address
// without being changed: 8 bytes of base address, then one int32 for each row of the batch.
//
// One block copies one row in units of 16, 4 or 1 bytes, whatever divides the row.
// gather.ptx is made from this file for compute capability 7.5, and the driver compiles it at load.
struct Parameters {
    const char* staged;
    int rows[1];
};

template <typename Unit>
__device__ void gather(char* target, const Parameters* parameters, long long row_bytes) {
    const int row = parameters->rows[blockIdx.x];
    const Unit* source = reinterpret_cast<const Unit*>(parameters->staged + row * row_bytes);
    Unit* destination = reinterpret_cast<Unit*>(target + blockIdx.x * row_bytes);
    const int units = row_bytes / sizeof(Unit);
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < units; i += gridDim.y * blockDim.x)
        destination[i] = source[i];
}

extern "C" __global__ void gather16(char* target, const Parameters* parameters, long long row_bytes) {
    gather<int4>(target, parameters, row_bytes);
}

extern "C" __global__ void gather4(char* target, const Parameters* parameters, long long row_bytes) {
    gather<int>(target, parameters, row_bytes);
}

extern "C" __global__ void gather1(char* target, const Parameters* parameters, long long row_bytes) {
    gather<char>(target, parameters, row_bytes);
}
