// Runs the kernels of detect.cu on a CPU: every thread of a block is a coroutine, and barriers switch between them.
// KERNELS is the file of the kernels, whose __shared__ the test has turned into static variables.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

struct float4 { float x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
static dim3 blockIdx, blockDim, threadIdx;
static unsigned long long* shared_memory;

struct Barrier { unsigned waiting = 0, generation = 0; };
static Barrier block_barrier, warp_barriers[32];
static ucontext_t scheduler;
static std::vector<ucontext_t> threads;
static unsigned running;

static void wait(Barrier& barrier, unsigned all) {
    const unsigned generation = barrier.generation;
    if (++barrier.waiting == all) {
        barrier.waiting = 0;
        ++barrier.generation;
    }
    while (barrier.generation == generation) {
        const unsigned me = threadIdx.x;
        swapcontext(&threads[me], &scheduler);
        threadIdx.x = me;
    }
}

static void __syncthreads() { wait(block_barrier, blockDim.x); }
static void __syncwarp() { wait(warp_barriers[threadIdx.x / 32], 32); }
template <typename T> static T atomicAdd(T* place, T value) { const T old = *place; *place += value; return old; }
static unsigned __float_as_uint(float value) { unsigned bits; memcpy(&bits, &value, 4); return bits; }
static float __uint_as_float(unsigned bits) { float value; memcpy(&value, &bits, 4); return value; }
static unsigned __vcmpgts4(unsigned a, unsigned b) {
    unsigned mask = 0;
    for (int byte = 0; byte < 32; byte += 8)
        if (static_cast<int8_t>(a >> byte) > static_cast<int8_t>(b >> byte)) mask |= 255u << byte;
    return mask;
}
static int __ffs(unsigned value) { return __builtin_ffs(value); }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::min;
#define __global__
#define __device__
#define __launch_bounds__(n)

#include KERNELS

static void (*body)(const Parameters*, float*);
static const Parameters* parameters;
static float* output;

static void selecting_int8(const Parameters* p, float*) { select_int8(p); }
static void selecting_float(const Parameters* p, float*) { select_float(p); }

static void thread() {
    body(parameters, output);
    --running;
    threadIdx.y = 1;  // says that it ended
}

extern "C" int parameter_bytes() { return sizeof(Parameters); }

extern "C" void start(const char* name, unsigned blocks_x, unsigned blocks_y, unsigned size, unsigned shared,
                      const Parameters* p, float* target) {
    const bool selects = strncmp(name, "select_", 7) == 0;
    body = !selects ? suppress : strcmp(name, "select_int8") == 0 ? selecting_int8 : selecting_float;
    parameters = p;
    output = target;
    blockDim.x = size;
    std::vector<unsigned long long> memory(shared / 8 + 1);
    shared_memory = memory.data();
    std::vector<char> stacks(static_cast<size_t>(size) << 15);
    for (blockIdx.y = 0; blockIdx.y < blocks_y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < blocks_x; ++blockIdx.x) {
            threads.assign(size, ucontext_t());
            std::vector<bool> ended(size);
            for (unsigned i = 0; i < size; ++i) {
                getcontext(&threads[i]);
                threads[i].uc_stack.ss_sp = stacks.data() + (static_cast<size_t>(i) << 15);
                threads[i].uc_stack.ss_size = 1 << 15;
                threads[i].uc_link = &scheduler;
                makecontext(&threads[i], thread, 0);
            }
            running = size;
            while (running > 0)
                for (unsigned i = 0; i < size; ++i) {
                    if (ended[i]) continue;
                    threadIdx = dim3{i, 0, 0};
                    swapcontext(&scheduler, &threads[i]);
                    ended[i] = threadIdx.y == 1;
                }
        }
}
