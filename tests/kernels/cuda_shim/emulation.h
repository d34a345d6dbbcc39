// CUDA C++ on a CPU, one fibre per thread, for testing kernels without a GPU. The kernels' sources are compiled
// unchanged; QBENCH_EMULATED leaves out their inline PTX, which the functions at the end of this file stand in for.
//
// What the model is strict about:
// * Threads of a block run in an adversarial order: a warp, chosen at random, runs as far as it can before another
//   one starts, so that a missing barrier shows. Within a warp the lanes run one after the other, in random order.
// * Blocks run in random order.
// * A collective of a warp needs all of its 32 lanes at the same one.
// * Asynchronous copies happen at once or, as often, only when they are waited for.
// * Dynamic shared memory starts with garbage and ends at an inaccessible page.
// * Every access is aligned to its type, by the compiler's sanitizer: a CPU would not mind, a GPU ends the kernel.
// What it cannot show: races between blocks, or where a lone access should be atomic; bank conflicts, registers, speed.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define QBENCH_EMULATED
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)

struct Index3 {
    unsigned x, y, z;
};
static Index3 threadIdx, blockIdx, blockDim, gridDim;

struct float2 { float x, y; };
struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

namespace emulated {

const int WARP_SIZE = 32, MESSAGE = 64, STACK_BYTES = 64 << 10;

// ---------------------------------------------------------------------------------------------- switching of stacks
#if defined(__x86_64__)
extern "C" void emulated_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden emulated_switch
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
using Context = void*;
inline void switch_to(Context& from, Context& to) { emulated_switch(&from, to); }
inline void prepare(Context& context, char* stack, void (*entry)()) {
    auto top = reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(stack) + STACK_BYTES) & ~uintptr_t(15));
    *--top = 0;  // as if called: the stack is aligned to 16 bytes before the return address
    *--top = reinterpret_cast<uint64_t>(entry);
    for (int i = 0; i < 6; ++i) *--top = 0;
    context = top;
}
#else
#include <ucontext.h>
using Context = ucontext_t;
inline void switch_to(Context& from, Context& to) { swapcontext(&from, &to); }
inline void prepare(Context& context, char* stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}
#endif

// ---------------------------------------------------------------------------------------------- threads and blocks
struct Warp;
using Collective = void (*)(Warp&);

enum State { READY, AT_BLOCK_BARRIER, AT_COLLECTIVE, DONE };

struct Copy {
    void* target;
    const void* source;
};

struct Fibre {
    Context context;
    std::vector<char> stack;
    State state;
    Collective collective;
    Index3 index;
    std::vector<std::vector<Copy>> groups;  // of copies under way, the last one not committed
};

// What the lanes of a warp hand to a collective, and what it hands back.
struct Warp {
    alignas(16) unsigned char in[WARP_SIZE][MESSAGE], out[WARP_SIZE][MESSAGE];
};

struct Block {
    std::vector<Fibre> fibres;
    std::vector<Warp> warps;
    Context scheduler;
    Fibre* current = nullptr;
    std::function<void()> body;
    unsigned char* shared = nullptr;
    const char* failure = nullptr;
};

static Block block;
static uint64_t random_state;

// Which of the planted bugs of a mutated source is at work; 0: none.
static int mutant = 0;

inline unsigned random_below(unsigned bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return unsigned((random_state >> 33) % bound);
}

template <typename T> void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_below(unsigned(i))]);
}

inline void suspend(State state) {
    Fibre* const me = block.current;
    me->state = state;
    switch_to(me->context, block.scheduler);
}

// From within a thread, whose stack no exception can leave.
inline void fail(const char* message) {
    block.failure = message;
    suspend(DONE);
}

// What -fsanitize=alignment calls, in place of its library.
extern "C" __attribute__((used)) inline void __ubsan_handle_type_mismatch_v1(void*, void*) {
    fail("an access to a misaligned address");
}

inline void perform(std::vector<Copy>& copies) {
    for (const Copy& copy : copies) std::memcpy(copy.target, copy.source, 16);
    copies.clear();
}

inline void fibre_main() {
    block.body();
    for (auto& group : block.current->groups) perform(group);
    suspend(DONE);
}

inline unsigned lane() { return threadIdx.x % WARP_SIZE; }
inline Warp& my_warp() { return block.warps[threadIdx.x / WARP_SIZE]; }

template <typename In> void collect(Collective collective, const In& in) {
    static_assert(sizeof(In) <= MESSAGE, "a message fits");
    std::memcpy(my_warp().in[lane()], &in, sizeof(In));
    block.current->collective = collective;
    suspend(AT_COLLECTIVE);
}
template <typename Out, typename In> Out collect_for(Collective collective, const In& in) {
    collect(collective, in);
    Out out;
    std::memcpy(&out, my_warp().out[lane()], sizeof(Out));
    return out;
}
template <typename T> T& in_as(Warp& warp, int lane) { return *reinterpret_cast<T*>(warp.in[lane]); }
template <typename T> T& out_as(Warp& warp, int lane) { return *reinterpret_cast<T*>(warp.out[lane]); }

struct Failure {
    std::string message;
};

inline void run_lane(Fibre& fibre) {
    block.current = &fibre;
    threadIdx = fibre.index;
    switch_to(block.scheduler, fibre.context);
    if (block.failure) throw Failure{std::exchange(block.failure, nullptr)};
}

// Runs a warp until every lane is at the block's barrier or done.
inline void run_warp(unsigned first, unsigned end, Warp& warp) {
    for (;;) {
        std::vector<Fibre*> ready;
        for (unsigned t = first; t < end; ++t)
            if (block.fibres[t].state == READY) ready.push_back(&block.fibres[t]);
        shuffle(ready);
        for (Fibre* fibre : ready) run_lane(*fibre);
        unsigned waiting = 0;
        Collective collective = nullptr;
        for (unsigned t = first; t < end; ++t) {
            const Fibre& fibre = block.fibres[t];
            if (fibre.state != AT_COLLECTIVE) continue;
            if (collective && fibre.collective != collective) throw Failure{"lanes of a warp are at different collectives"};
            collective = fibre.collective;
            ++waiting;
        }
        if (waiting == 0) return;
        if (waiting != WARP_SIZE) throw Failure{"a collective of a warp without all of its lanes"};
        collective(warp);
        for (unsigned t = first; t < end; ++t) block.fibres[t].state = READY;
    }
}

inline void run_block(unsigned threads) {
    const unsigned warps = (threads + WARP_SIZE - 1) / WARP_SIZE;
    for (unsigned t = 0; t < threads; ++t) {
        Fibre& fibre = block.fibres[t];
        fibre.state = READY;
        fibre.index = {t, 0, 0};
        fibre.groups.assign(1, {});
        prepare(fibre.context, fibre.stack.data(), fibre_main);
    }
    std::vector<unsigned> order(warps);
    std::iota(order.begin(), order.end(), 0u);
    for (;;) {
        shuffle(order);
        for (unsigned w : order) run_warp(w * WARP_SIZE, std::min(threads, (w + 1) * WARP_SIZE), block.warps[w]);
        bool is_done = true;
        for (unsigned t = 0; t < threads; ++t) is_done = is_done && block.fibres[t].state == DONE;
        if (is_done) return;
        for (unsigned t = 0; t < threads; ++t)
            if (block.fibres[t].state == AT_BLOCK_BARRIER) block.fibres[t].state = READY;
    }
}

// Memory that ends at an inaccessible page.
struct GuardedMemory {
    size_t page = 4096, length;
    unsigned char *base, *end;

    explicit GuardedMemory(size_t bytes) {
        length = (bytes + page - 1) / page * page + page;
        base = static_cast<unsigned char*>(
            mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        end = base + length - page;
        mprotect(end, page, PROT_NONE);
    }
    ~GuardedMemory() { munmap(base, length); }
};

inline void run_grid(Index3 grid, unsigned threads, unsigned shared_bytes, std::function<void()> body) {
    const unsigned warps = (threads + WARP_SIZE - 1) / WARP_SIZE;
    if (block.fibres.size() < threads) block.fibres.resize(threads);
    for (Fibre& fibre : block.fibres) fibre.stack.resize(STACK_BYTES);
    if (block.warps.size() < warps) block.warps.resize(warps);
    GuardedMemory memory(shared_bytes);
    block.shared = memory.end - (shared_bytes + 15) / 16 * 16;
    block.body = std::move(body);
    gridDim = grid;
    blockDim = {threads, 1, 1};
    std::vector<Index3> blocks;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) blocks.push_back({x, y, z});
    shuffle(blocks);
    for (const Index3& index : blocks) {
        blockIdx = index;
        for (unsigned i = 0; i < shared_bytes; ++i) block.shared[i] = (unsigned char)random_below(256);
        run_block(threads);
    }
}

}  // namespace emulated

// ---------------------------------------------------------------------------------------------- CUDA's functions
inline void __syncthreads() { emulated::suspend(emulated::AT_BLOCK_BARRIER); }

template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
    struct Message {
        T value;
        int mask;
    };
    return emulated::collect_for<T>(
        [](emulated::Warp& warp) {
            for (int lane = 0; lane < emulated::WARP_SIZE; ++lane) {
                const int source = lane ^ emulated::in_as<Message>(warp, lane).mask;
                emulated::out_as<T>(warp, lane) = emulated::in_as<Message>(warp, source).value;
            }
        },
        Message{value, mask});
}

inline int __any_sync(unsigned, int predicate) {
    return emulated::collect_for<int>(
        [](emulated::Warp& warp) {
            int any = 0;
            for (int lane = 0; lane < emulated::WARP_SIZE; ++lane) any |= emulated::in_as<int>(warp, lane) != 0;
            for (int lane = 0; lane < emulated::WARP_SIZE; ++lane) emulated::out_as<int>(warp, lane) = any;
        },
        predicate);
}

template <typename T, typename F> T emulated_atomic(T* target, F change) {
    if (reinterpret_cast<uintptr_t>(target) % sizeof(T)) emulated::fail("an atomic on a misaligned address");
    const T before = *target;
    *target = change(before);
    return before;
}
inline unsigned long long atomicAdd(unsigned long long* target, unsigned long long value) {
    return emulated_atomic(target, [=](auto old) { return old + value; });
}
inline unsigned atomicOr(unsigned* target, unsigned value) {
    return emulated_atomic(target, [=](auto old) { return old | value; });
}
template <typename T> T atomicMin(T* target, T value) {
    return emulated_atomic(target, [=](T old) { return std::min(old, value); });
}
template <typename T> T atomicMax(T* target, T value) {
    return emulated_atomic(target, [=](T old) { return std::max(old, value); });
}

// The file is compiled without contraction, so that plain operators round one by one.
inline float __fadd_rn(float a, float b) { return a + b; }
// Rounded down: what was lost to the nearest number, which TwoSum finds, says whether that is too large.
inline float __fadd_rd(float a, float b) {
    const float sum = a + b, other = sum - a, lost = (a - (sum - other)) + (b - other);
    return lost < 0 ? std::nextafter(sum, -INFINITY) : sum;
}
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __int2float_rn(int a) { return (float)a; }
inline float __ll2float_rn(long long a) { return (float)a; }
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const uint64_t bytes = (uint64_t(high) << 32) | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= unsigned(bytes >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
    return result;
}

template <typename Byte, typename Sum> Sum emulated_dot(unsigned a, unsigned b, Sum sum) {
    for (int i = 0; i < 4; ++i) sum += Sum(Byte(a >> (8 * i))) * Sum(Byte(b >> (8 * i)));
    return sum;
}
inline int __dp4a(int a, int b, int sum) { return emulated_dot<signed char>(a, b, sum); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) { return emulated_dot<unsigned char>(a, b, sum); }

// ---------------------------------------------------------------------------------------------- instead of PTX
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }

template <bool TRANSPOSED> void emulated_load_matrices(unsigned (&out)[4], const void* row) {
    if (reinterpret_cast<uintptr_t>(row) % 16) emulated::fail("ldmatrix of a misaligned row");
    struct Words {
        unsigned word[4];
    };
    const Words words = emulated::collect_for<Words>(
        [](emulated::Warp& warp) {
            for (int lane = 0; lane < emulated::WARP_SIZE; ++lane) {
                for (int matrix = 0; matrix < 4; ++matrix) {
                    unsigned word = 0;
                    for (int half = 0; half < 2; ++half) {
                        // Plain: elements 2 (lane % 4) and the next of row lane / 4. Transposed: of column lane / 4.
                        const int along = lane % 4 * 2 + half, across = lane / 4;
                        const int matrix_row = TRANSPOSED ? along : across, element = TRANSPOSED ? across : along;
                        const char* source = emulated::in_as<const char*>(warp, matrix * 8 + matrix_row);
                        uint16_t value;
                        std::memcpy(&value, source + 2 * element, 2);
                        word |= unsigned(value) << (16 * half);
                    }
                    emulated::out_as<Words>(warp, lane).word[matrix] = word;
                }
            }
        },
        static_cast<const char*>(row));
    for (int i = 0; i < 4; ++i) out[i] = words.word[i];
}
inline void load_matrices(unsigned (&out)[4], const void* row) { emulated_load_matrices<false>(out, row); }
inline void load_matrices_transposed(unsigned (&out)[4], const void* row) { emulated_load_matrices<true>(out, row); }

inline void copy_async(void* target, const void* source) {
    if ((reinterpret_cast<uintptr_t>(target) | reinterpret_cast<uintptr_t>(source)) % 16)
        emulated::fail("cp.async of 16 bytes with a misaligned address");
    if (emulated::random_below(2))
        std::memcpy(target, source, 16);
    else
        emulated::block.current->groups.back().push_back({target, source});
}
inline void commit_copies() { emulated::block.current->groups.emplace_back(); }
template <int pending> void wait_for_copies() {
    auto& groups = emulated::block.current->groups;
    for (size_t i = 0; i + 1 + pending < groups.size(); ++i) emulated::perform(groups[i]);
    if (groups.size() > size_t(1 + pending)) groups.erase(groups.begin(), groups.end() - (1 + pending));
}

struct Fragments16832 {
    unsigned a[4], b[2];
    int c[4];
};

// m16n8k32. With g = lane / 4 and t = lane % 4: a holds A[g + 8 (i % 2)][4 t + 16 (i / 2) ..] four at a time, b holds
// B[4 t + 16 i ..][g], and c holds C[g + 8 (i / 2)][2 t + i % 2].
template <typename A, typename B> void emulated_mma(emulated::Warp& warp) {
    int a[16][32], b[8][32];
    for (int lane = 0; lane < emulated::WARP_SIZE; ++lane) {
        const auto& message = emulated::in_as<Fragments16832>(warp, lane);
        const int g = lane / 4, t = lane % 4;
        for (int byte = 0; byte < 4; ++byte) {
            for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][4 * t + 16 * (i / 2) + byte] = A(message.a[i] >> (8 * byte));
            for (int i = 0; i < 2; ++i) b[g][4 * t + 16 * i + byte] = B(message.b[i] >> (8 * byte));
        }
    }
    for (int lane = 0; lane < emulated::WARP_SIZE; ++lane) {
        const auto& message = emulated::in_as<Fragments16832>(warp, lane);
        for (int i = 0; i < 4; ++i) {
            const int *row = a[lane / 4 + 8 * (i / 2)], *column = b[lane % 4 * 2 + i % 2];
            unsigned sum = message.c[i];  // wraps as the instruction does
            for (int k = 0; k < 32; ++k) sum += unsigned(row[k] * column[k]);
            emulated::out_as<Fragments16832>(warp, lane).c[i] = int(sum);
        }
    }
}

template <typename A, typename B>
void multiply_accumulate(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, A, B) {
    const Fragments16832 in{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
    const auto out = emulated::collect_for<Fragments16832>(emulated_mma<A, B>, in);
    for (int i = 0; i < 4; ++i) c[i] = out.c[i];
}

inline unsigned char* dynamic_shared() { return emulated::block.shared; }

// ---------------------------------------------------------------------------------------------- calling kernels
namespace emulated {

// One letter per type of argument: i int64, f float32, d float64, n null pointer, and for tensors the type of the elements.
template <typename T> struct Letter { static const char value = '*'; };  // void and the kernels' own structures
template <> struct Letter<float> { static const char value = 'F'; };
template <> struct Letter<double> { static const char value = 'D'; };
template <> struct Letter<signed char> { static const char value = 'B'; };
template <> struct Letter<unsigned char> { static const char value = 'U'; };
template <> struct Letter<short> { static const char value = 'H'; };
template <> struct Letter<int> { static const char value = 'I'; };
template <> struct Letter<unsigned> { static const char value = 'I'; };
template <> struct Letter<long long> { static const char value = 'L'; };
template <> struct Letter<unsigned long long> { static const char value = 'L'; };

template <typename P> struct Slot {
    static P read(uint64_t bits) {
        P value;
        std::memcpy(&value, &bits, sizeof(P));
        return value;
    }
    static bool fits(char letter) { return letter == (std::is_same_v<P, float> ? 'f' : std::is_same_v<P, double> ? 'd' : 'i'); }
};
template <typename T> struct Slot<T*> {
    static T* read(uint64_t bits) { return reinterpret_cast<T*>(bits); }
    static bool fits(char letter) {
        const char own = Letter<std::remove_const_t<T>>::value;
        return letter == 'n' || (own == '*' ? letter >= 'A' && letter <= 'Z' : letter == own);
    }
};

using Call = std::function<void()>;

template <typename... P, size_t... I>
Call bound(void (*kernel)(P...), const uint64_t* slots, const char* letters, std::index_sequence<I...>) {
    if (std::strlen(letters) != sizeof...(P))
        throw Failure{"the kernel takes " + std::to_string(sizeof...(P)) + " arguments, got " + letters};
    const bool fits[] = {Slot<P>::fits(letters[I])...};
    for (size_t i = 0; i < sizeof...(P); ++i)
        if (!fits[i]) throw Failure{"argument " + std::to_string(i) + " of " + letters + " is of another type"};
    std::tuple<P...> arguments{Slot<P>::read(slots[I])...};
    return [=] { kernel(std::get<I>(arguments)...); };
}
template <typename... P> Call bind(void (*kernel)(P...), const uint64_t* slots, const char* letters) {
    return bound(kernel, slots, letters, std::index_sequence_for<P...>());
}

static std::string last_failure;

}  // namespace emulated

// The generated file defines bind_kernel, which names every kernel of one source file.
emulated::Call bind_kernel(const std::string& name, const uint64_t* slots, const char* letters);

extern "C" __attribute__((visibility("default"))) void choose_mutant(int number) { emulated::mutant = number; }

extern "C" __attribute__((visibility("default"))) const char* emulated_launch(
    const char* kernel, const unsigned* grid, unsigned threads, unsigned shared_bytes, const uint64_t* slots,
    const char* letters, uint64_t seed) {
    try {
        emulated::random_state = seed;
        emulated::run_grid({grid[0], grid[1], grid[2]}, threads, shared_bytes, bind_kernel(kernel, slots, letters));
        return nullptr;
    } catch (const emulated::Failure& failure) {
        emulated::last_failure = failure.message;
        return emulated::last_failure.c_str();
    }
}
