// Finds the objects in what the heads of a detector give for a batch: the post-processing of nvkit.DetectObjects.
//
// `select_int8` or `select_float` reads every class logit once and lists those above the threshold. `suppress`, one
// block for each image, keeps the best of each level, decodes their boxes, drops the boxes that a better one of their
// class overlaps, and writes the rows. A candidate is one 64-bit key: its logit, in an order of unsigned numbers, above
// the complement of its element (anchor * classes + class). Keys differ from one another, so the result does not
// depend on the order in which threads come.
//
// detector.py fills `Parameters`. detect.ptx is made from this file for compute capability 8.0, and the driver compiles
// it at load.
typedef unsigned long long Key;

struct Level {
    const void* logits;   // [image][groups of `vector` channels][position][vector]; channel: shape * classes + class
    const float* deltas;  // [image][4 * shapes][position]; channel: shape * 4 + (dx, dy, dw, dh)
    int positions;
    int first_anchor;  // anchors of a level: position * shapes + shape
    int first_block;   // of the selecting kernel, for an image
    int reserved;
};

struct Parameters {
    Level levels[8];
    const float4* anchors;  // corners in pixels
    Key* candidates;        // [image][level][capacity]
    int* counts;            // [image][level], zeros before a batch
    float4* boxes;          // [image][most]
    int level_count;
    int shapes;  // anchors at a position
    int classes;
    int kept;      // candidates of a level that take part in the suppression
    int capacity;  // candidates that are listed
    int most;      // power of two, at least 1024 and all levels' kept candidates
    int rows;      // of the output
    int below;     // greatest int8 that is not above the threshold
    float scale;   // logit = int8 * scale + shift
    float shift;
    float threshold;  // logit
    float overlap;
    float growth;  // greatest dw and dh
    float side;    // of the image, pixels
};

static const int UNROLL = 4;

__device__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ float value_of(Key key) {
    const unsigned bits = static_cast<unsigned>(key >> 32);
    return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

__device__ unsigned element_of(Key key) { return 0xffffffffu - static_cast<unsigned>(key); }

__device__ int level_of_block(const Parameters& p) {
    int level = 0;
    while (level + 1 < p.level_count && static_cast<int>(blockIdx.x) >= p.levels[level + 1].first_block) ++level;
    return level;
}

__device__ void list(const Parameters& p, int image, int level, int channel, int position, float logit) {
    const int anchor = p.levels[level].first_anchor + position * p.shapes + channel / p.classes;
    const unsigned element = static_cast<unsigned>(anchor) * p.classes + channel % p.classes;
    const int place = image * p.level_count + level;
    const int number = atomicAdd(&p.counts[place], 1);
    if (number < p.capacity)
        p.candidates[static_cast<Key>(place) * p.capacity + number] =
            static_cast<Key>(ordered(logit)) << 32 | (0xffffffffu - element);
}

// Logits as int8 in TensorRT's layout CHW32; a thread reads four times 16 channels of a position.
extern "C" __global__ void select_int8(const Parameters* parameters) {
    const Parameters& p = *parameters;
    const int level = level_of_block(p), image = blockIdx.y;
    const int positions = p.levels[level].positions, channels = p.shapes * p.classes;
    const int units = (channels + 31) / 32 * positions * 2;
    const uint4* source = static_cast<const uint4*>(p.levels[level].logits) + static_cast<Key>(image) * units;
    const int first = (blockIdx.x - p.levels[level].first_block) * blockDim.x * UNROLL + threadIdx.x;
    const unsigned below = (p.below & 255) * 0x01010101u;
    unsigned found = 0;
#pragma unroll
    for (int i = 0; i < UNROLL; ++i) {
        const int unit = first + i * blockDim.x;
        const uint4 read = unit < units ? source[unit] : make_uint4(below, below, below, below);
        const unsigned above = __vcmpgts4(read.x, below) | __vcmpgts4(read.y, below) | __vcmpgts4(read.z, below) |
                               __vcmpgts4(read.w, below);
        found |= (above != 0) << i;
    }
    for (; found != 0; found &= found - 1) {
        const int unit = first + (__ffs(found) - 1) * blockDim.x;
        const int channel = unit / (2 * positions) * 32 + unit % 2 * 16;
        const signed char* values = reinterpret_cast<const signed char*>(source + unit);
#pragma unroll 1
        for (int i = 0; i < 16 && channel + i < channels; ++i)  // the last group has channels that are none
            if (values[i] > p.below)
                list(p, image, level, channel + i, unit % (2 * positions) / 2, values[i] * p.scale + p.shift);
    }
}

// Logits as fp32, row after row.
extern "C" __global__ void select_float(const Parameters* parameters) {
    const Parameters& p = *parameters;
    const int level = level_of_block(p), image = blockIdx.y;
    const int positions = p.levels[level].positions, units = p.shapes * p.classes * positions;
    const float* source = static_cast<const float*>(p.levels[level].logits) + static_cast<Key>(image) * units;
    const int first = (blockIdx.x - p.levels[level].first_block) * blockDim.x * UNROLL + threadIdx.x;
    float read[UNROLL];
#pragma unroll
    for (int i = 0; i < UNROLL; ++i) {
        const int unit = first + i * blockDim.x;
        read[i] = unit < units ? source[unit] : p.threshold;
    }
#pragma unroll
    for (int i = 0; i < UNROLL; ++i) {
        const int unit = first + i * blockDim.x;
        if (read[i] > p.threshold) list(p, image, level, unit / positions, unit % positions, read[i]);
    }
}

// Sorts `size` numbers, a power of two, in shared memory.
template <typename Number, bool descending>
__device__ void sort(Number* numbers, int size) {
    for (int run = 2; run <= size; run *= 2)
        for (int step = run / 2; step > 0; step /= 2) {
            for (int i = threadIdx.x; i < size / 2; i += blockDim.x) {
                const int low = (i & ~(step - 1)) << 1 | (i & (step - 1));
                const Number a = numbers[low], b = numbers[low + step];
                if ((a > b) == (((low & run) == 0) != descending)) {
                    numbers[low] = b;
                    numbers[low + step] = a;
                }
            }
            __syncthreads();
        }
}

// Returns the `wanted`-th greatest of `count` different keys in global memory, digit by digit.
__device__ Key greatest(const Key* keys, int count, int wanted) {
    __shared__ int digits[256];
    __shared__ int rest, chosen;
    Key prefix = 0, mask = 0;
    if (threadIdx.x == 0) rest = wanted;
    for (int shift = 56; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256; i += blockDim.x) digits[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x)
            if ((keys[i] & mask) == prefix) atomicAdd(&digits[keys[i] >> shift & 255], 1);
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 255;
            while (digits[digit] < rest) rest -= digits[digit--];
            chosen = digit;
        }
        __syncthreads();
        prefix |= static_cast<Key>(chosen) << shift;
        mask |= static_cast<Key>(255) << shift;
    }
    return prefix;
}

__device__ float4 decoded(const Parameters& p, int image, unsigned anchor) {
    int number = p.level_count - 1;
    while (static_cast<int>(anchor) < p.levels[number].first_anchor) --number;
    const Level& level = p.levels[number];
    const int place = anchor - level.first_anchor, position = place / p.shapes, shape = place % p.shapes;
    const float* deltas =
        level.deltas + (static_cast<Key>(image) * p.shapes + shape) * 4 * level.positions + position;
    const float4 corners = p.anchors[anchor];
    const float width = corners.z - corners.x, height = corners.w - corners.y;
    const float x = deltas[0] * width + (corners.x + width * 0.5f);
    const float y = deltas[level.positions] * height + (corners.y + height * 0.5f);
    const float right = expf(fminf(deltas[2 * level.positions], p.growth)) * width * 0.5f;
    const float down = expf(fminf(deltas[3 * level.positions], p.growth)) * height * 0.5f;
    return make_float4(fminf(fmaxf(x - right, 0.0f), p.side), fminf(fmaxf(y - down, 0.0f), p.side),
                       fminf(fmaxf(x + right, 0.0f), p.side), fminf(fmaxf(y + down, 0.0f), p.side));
}

__device__ bool overlap(const float4& a, const float4& b, float threshold) {
    const float width = fminf(a.z, b.z) - fmaxf(a.x, b.x), height = fminf(a.w, b.w) - fmaxf(a.y, b.y);
    if (width <= 0.0f || height <= 0.0f) return false;
    const float both = width * height;
    const float either = (a.z - a.x) * (a.w - a.y) + (b.z - b.x) * (b.w - b.y) - both;
    return both > threshold * either;
}

// Returns the place of the first number that is at least `least`.
__device__ int first_from(const unsigned* numbers, int count, unsigned least) {
    int low = 0;
    while (count > 0) {
        const int half = count / 2;
        if (numbers[low + half] < least) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

// Shared memory: `most` keys, then `most` unsigned numbers. 1024 threads at most, a multiple of 32.
extern "C" __global__ void __launch_bounds__(1024) suppress(const Parameters* parameters, float* output) {
    extern __shared__ Key keys[];
    __shared__ int total;
    const Parameters& p = *parameters;
    const int image = blockIdx.x, thread = threadIdx.x;
    unsigned* order = reinterpret_cast<unsigned*>(keys + p.most);
    int* sums = reinterpret_cast<int*>(order);  // when the order has served
    float4* boxes = p.boxes + static_cast<Key>(image) * p.most;

    if (thread == 0) total = 0;
    __syncthreads();
    for (int level = 0; level < p.level_count; ++level) {
        const int place = image * p.level_count + level, count = min(p.counts[place], p.capacity);
        const Key* listed = p.candidates + static_cast<Key>(place) * p.capacity;
        const Key least = count > p.kept ? greatest(listed, count, p.kept) : 0;
        for (int i = thread; i < count; i += blockDim.x)
            if (listed[i] >= least) keys[atomicAdd(&total, 1)] = listed[i];
        __syncthreads();
        if (thread == 0) p.counts[place] = 0;  // for the next batch
    }

    // A candidate's place in descending order of score is its rank.
    int size = 1;
    while (size < total) size *= 2;
    for (int i = total + thread; i < size; i += blockDim.x) keys[i] = 0;
    __syncthreads();
    sort<Key, true>(keys, size);
    for (int rank = thread; rank < size; rank += blockDim.x) {
        if (rank < total) boxes[rank] = decoded(p, image, element_of(keys[rank]) / p.classes);
        order[rank] = rank < total ? element_of(keys[rank]) % p.classes << 16 | rank : 0xffffffffu;
    }
    __syncthreads();
    sort<unsigned, false>(order, size);

    // A warp takes a class: its candidates follow one another in `order`, the best first. A dropped one's key is 0.
    for (int label = thread / 32; label < p.classes; label += blockDim.x / 32) {
        const int begin = first_from(order, total, static_cast<unsigned>(label) << 16);
        const int end = first_from(order, total, static_cast<unsigned>(label + 1) << 16);
        for (int i = begin; i < end; ++i) {
            const int rank = order[i] & 0xffff;
            if (keys[rank] != 0) {
                const float4 box = boxes[rank];
                for (int other = i + 1 + thread % 32; other < end; other += 32)
                    if (overlap(box, boxes[order[other] & 0xffff], p.overlap)) keys[order[other] & 0xffff] = 0;
            }
            __syncwarp();
        }
    }
    __syncthreads();

    // Rows in order of rank: each thread counts its own, then all before it.
    const int share = (total + blockDim.x - 1) / blockDim.x, begin = min(thread * share, total);
    const int end = min(begin + share, total);
    int number = 0;
    for (int rank = begin; rank < end; ++rank) number += keys[rank] != 0;
    sums[thread] = number;
    __syncthreads();
    for (int distance = 1; distance < blockDim.x; distance *= 2) {
        const int before = thread >= distance ? sums[thread - distance] : 0;
        __syncthreads();
        sums[thread] += before;
        __syncthreads();
    }
    float* rows = output + static_cast<Key>(image) * p.rows * 6;
    int row = sums[thread] - number;
    for (int rank = begin; rank < end && row < p.rows; ++rank) {
        if (keys[rank] == 0) continue;
        const float4 box = boxes[rank];
        float* target = rows + 6 * row++;
        target[0] = box.y / p.side;
        target[1] = box.x / p.side;
        target[2] = box.w / p.side;
        target[3] = box.z / p.side;
        target[4] = 1.0f / (1.0f + expf(-value_of(keys[rank])));
        target[5] = static_cast<float>(element_of(keys[rank]) % p.classes);
    }
    for (int i = 6 * sums[blockDim.x - 1] + thread; i < 6 * p.rows; i += blockDim.x) rows[i] = 0.0f;
}
