// What CUDA C for sm_90a calls to use its barriers, copy engine and warpgroup products (see the header).
#include "compiler/emit_cuda_hopper.h"

#include "ir/base/status.h"

static const char prelude[] =
    "#ifndef MUSE_HOPPER\n"
    "#define MUSE_HOPPER\n"
    "#ifndef MUSE_SHARED_ADDRESS\n"
    "#define MUSE_SHARED_ADDRESS\n"
    "FN unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }\n"
    "#endif\n"
    "\n"
    "// Barriers in shared memory (mbarrier), by address. A phase ends when as many arrivals as barrier_init named "
    "have come\n"
    "// and all announced bytes; who waits names the parity of the phase: 0, 1, 0...\n"
    "FN void barrier_init(unsigned barrier, unsigned arrivals) {\n"
    "  asm volatile(\"mbarrier.init.shared::cta.b64 [%0], %1;\" ::\"r\"(barrier), \"r\"(arrivals) : \"memory\");\n"
    "}\n"
    "// After all barrier_init, by the thread that did them, in front of a __syncthreads or cluster_sync.\n"
    "FN void barrier_init_done() { asm volatile(\"fence.mbarrier_init.release.cluster;\\nfence.proxy.async;\" ::: "
    "\"memory\"); }\n"
    "FN void barrier_arrive(unsigned barrier) {\n"
    "  asm volatile(\"mbarrier.arrive.shared::cta.b64 _, [%0];\" ::\"r\"(barrier) : \"memory\");\n"
    "}\n"
    "FN void barrier_arrive_expect(unsigned barrier, unsigned bytes) {\n"
    "  asm volatile(\"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\" ::\"r\"(barrier), \"r\"(bytes) : "
    "\"memory\");\n"
    "}\n"
    "// The same barrier of block `rank` of the cluster.\n"
    "FN void barrier_arrive_at(unsigned barrier, unsigned rank) {\n"
    "  asm volatile(\"{\\n.reg .b32 far;\\nmapa.shared::cluster.u32 far, %0, %1;\\n\"\n"
    "               \"mbarrier.arrive.release.cluster.shared::cluster.b64 _, [far];\\n}\" ::\"r\"(barrier), "
    "\"r\"(rank) : \"memory\");\n"
    "}\n"
    "FN void barrier_wait(unsigned barrier, unsigned parity) {\n"
    "  asm volatile(\"{\\n.reg .pred done;\\nAGAIN:\\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\\n\"\n"
    "               \"@!done bra AGAIN;\\n}\" ::\"r\"(barrier), \"r\"(parity) : \"memory\");\n"
    "}\n"
    "// For barriers that other blocks of the cluster arrive at.\n"
    "FN void barrier_wait_cluster(unsigned barrier, unsigned parity) {\n"
    "  asm volatile(\"{\\n.reg .pred done;\\nAGAIN:\\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 "
    "done, [%0], %1;\\n\"\n"
    "               \"@!done bra AGAIN;\\n}\" ::\"r\"(barrier), \"r\"(parity) : \"memory\");\n"
    "}\n"
    "FN unsigned cluster_rank() {\n"
    "  unsigned rank;\n"
    "  asm volatile(\"mov.u32 %0, %%cluster_ctarank;\" : \"=r\"(rank));\n"
    "  return rank;\n"
    "}\n"
    "FN void cluster_sync() {\n"
    "  asm volatile(\"barrier.cluster.arrive.release.aligned;\\nbarrier.cluster.wait.acquire.aligned;\" ::: "
    "\"memory\");\n"
    "}\n"
    "// `threads` threads of the block wait for each other at barrier `id` of 1..15.\n"
    "FN void named_sync(int id, int threads) { asm volatile(\"bar.sync %0, %1;\" ::\"r\"(id), \"r\"(threads) : "
    "\"memory\"); }\n"
    "\n"
    "// The bulk tensor copy engine: the box at (column, row) of a tensor map, to shared memory (aligned to 128 "
    "bytes; to\n"
    "// 1024 when swizzled by 128); its bytes are counted at the barrier. Multicast: to the same place of the "
    "blocks in\n"
    "// `mask`, and counted at the same barrier of each.\n"
    "FN void tensor_prefetch(const TensorMap *map) { asm volatile(\"prefetch.tensormap [%0];\" ::\"l\"(map) : "
    "\"memory\"); }\n"
    "FN void tensor_load(unsigned to, const TensorMap *map, int column, int row, unsigned barrier) {\n"
    "  asm volatile(\"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
    "%3}], [%4];\"\n"
    "               ::\"r\"(to), \"l\"(map), \"r\"(column), \"r\"(row), \"r\"(barrier) : \"memory\");\n"
    "}\n"
    "FN void tensor_load_multicast(unsigned to, const TensorMap *map, int column, int row, unsigned barrier, "
    "unsigned mask) {\n"
    "  asm "
    "volatile(\"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster \"\n"
    "               \"[%0], [%1, {%2, %3}], [%4], %5;\"\n"
    "               ::\"r\"(to), \"l\"(map), \"r\"(column), \"r\"(row), \"r\"(barrier), \"h\"((unsigned short)mask) "
    ": \"memory\");\n"
    "}\n"
    "// From shared memory, written by threads that passed fence_async and then a barrier. One thread stores, "
    "commits, waits.\n"
    "FN void tensor_store(const TensorMap *map, int column, int row, unsigned from) {\n"
    "  asm volatile(\"cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\"\n"
    "               ::\"l\"(map), \"r\"(column), \"r\"(row), \"r\"(from) : \"memory\");\n"
    "}\n"
    "FN void tensor_commit() { asm volatile(\"cp.async.bulk.commit_group;\" ::: \"memory\"); }\n"
    "template <int PENDING> FN void tensor_wait_read() { // until shared memory may be written again\n"
    "  asm volatile(\"cp.async.bulk.wait_group.read %0;\" ::\"n\"(PENDING) : \"memory\");\n"
    "}\n"
    "template <int PENDING> FN void tensor_wait() { asm volatile(\"cp.async.bulk.wait_group %0;\" ::\"n\"(PENDING) "
    ": \"memory\"); }\n"
    "// Ordinary writes to shared memory before it are seen by the copy engine and by wgmma after the next barrier.\n"
    "FN void fence_async() { asm volatile(\"fence.proxy.async.shared::cta;\" ::: \"memory\"); }\n"
    "\n"
    "// Matrix descriptors of wgmma. Here: rows of 128 bytes along the summed dimension, swizzled by 128 bytes, 8 "
    "rows being\n"
    "// 1024 bytes, as a box of 128 bytes by rows lies. A step of 32 bytes along the row adds 2.\n"
    "FN u64 matrix_128(unsigned address) {\n"
    "  return (u64)((address & 0x3ffffu) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;\n"
    "}\n"
    "// Any other: offsets in bytes; swizzle 0, 1, 2, 3: none, 128, 64, 32 bytes (PTX ISA, \"matrix descriptor\").\n"
    "FN u64 matrix_of(unsigned address, unsigned leading, unsigned stride, unsigned swizzle) {\n"
    "  return (u64)((address & 0x3ffffu) >> 4) | (u64)(leading >> 4) << 16 | (u64)(stride >> 4) << 32 | "
    "(u64)swizzle << 62;\n"
    "}\n"
    "FN void wgmma_fence() { asm volatile(\"wgmma.fence.sync.aligned;\" ::: \"memory\"); }\n"
    "FN void wgmma_commit() { asm volatile(\"wgmma.commit_group.sync.aligned;\" ::: \"memory\"); }\n"
    "template <int PENDING> FN void wgmma_wait() {\n"
    "  asm volatile(\"wgmma.wait_group.sync.aligned %0;\" ::\"n\"(PENDING) : \"memory\");\n"
    "}\n"
    "// Registers of a thread, for whole warpgroups; the function needs __launch_bounds__(threads, 1).\n"
    "template <int REGISTERS> FN void more_registers() {\n"
    "  asm volatile(\"setmaxnreg.inc.sync.aligned.u32 %0;\" ::\"n\"(REGISTERS));\n"
    "}\n"
    "template <int REGISTERS> FN void fewer_registers() {\n"
    "  asm volatile(\"setmaxnreg.dec.sync.aligned.u32 %0;\" ::\"n\"(REGISTERS));\n"
    "}\n"
    "#endif\n";

const char *muse_cuda_hopper_prelude(void) { return prelude; }

// "%first, %first+1, ..": n operands of an asm statement
static void append_operands(MuseStr *out, int first, int n) {
  for (int i = 0; i < n; i++) muse_str_appendf(out, "%s%%%d", i ? ", " : "", first + i);
}

// One wrapper; A from registers or by descriptor.
static void append_wrapper(MuseStr *out, MuseDtype dtype, int columns, bool a_in_registers) {
  const bool bytes = dtype == MUSE_I8;
  const char *type = bytes ? "s8" : muse_dtype_name(dtype), *sum = bytes ? "int" : "float";
  const int n = columns / 2, n_a = a_in_registers ? 4 : 1; // sums of a thread, operands of A
  const char *flags = bytes ? "" : a_in_registers ? "template <int TRANS_B = 0> "
                                                  : "template <int TRANS_A = 0, int TRANS_B = 0> ";
  muse_str_appendf(out, "%sFN void wgmma_%s_%d%s(%s (&d)[%d], %s, u64 b, int add) {\n", flags, type, columns,
                   a_in_registers ? "_r" : "", sum, n, a_in_registers ? "const unsigned (&a)[4]" : "u64 a");
  muse_str_appendf(out, "  asm volatile(\"{\\n.reg .pred p;\\nsetp.ne.b32 p, %%%d, 0;\\n\"\n", n + n_a + 1);
  muse_str_appendf(out, "               \"wgmma.mma_async.sync.aligned.m64n%dk%d.%s.%s.%s {", columns, bytes ? 32 : 16,
                   bytes ? "s32" : "f32", type, type);
  append_operands(out, 0, n);
  muse_str_append(out, a_in_registers ? "}, {" : "}, ");
  append_operands(out, n, n_a);
  muse_str_appendf(out, "%s%%%d, p", a_in_registers ? "}, " : ", ", n + n_a);
  if (!bytes) {
    muse_str_append(out, ", 1, 1");
    for (int i = a_in_registers; i < 2; i++) muse_str_appendf(out, ", %%%d", n + n_a + 2 + i - a_in_registers);
  }
  muse_str_append(out, ";\\n}\"\n               :");
  for (int i = 0; i < n; i++) muse_str_appendf(out, "%s\"+%s\"(d[%d])", i ? ", " : " ", bytes ? "r" : "f", i);
  muse_str_append(out, "\n               :");
  for (int i = 0; i < n_a; i++)
    muse_str_appendf(out, a_in_registers ? " \"r\"(a[%d])," : " \"l\"(a),", i);
  muse_str_append(out, " \"l\"(b), \"r\"(add)");
  if (!bytes) muse_str_append(out, a_in_registers ? ", \"n\"(TRANS_B)" : ", \"n\"(TRANS_A), \"n\"(TRANS_B)");
  muse_str_append(out, ");\n}\n");
}

void muse_cuda_write_wgmma(MuseStr *out, MuseDtype dtype, int columns) {
  const bool bytes = dtype == MUSE_I8;
  MUSE_ASSERT(bytes || dtype == MUSE_BF16 || dtype == MUSE_F16);
  MUSE_ASSERT(columns >= 8 && columns <= 256 && columns % (bytes && columns > 32 ? 16 : 8) == 0);
  const char *name = bytes ? "S8" : dtype == MUSE_BF16 ? "BF16" : "F16";
  muse_str_appendf(out, "#ifndef MUSE_WGMMA_%s_%d\n#define MUSE_WGMMA_%s_%d\n", name, columns, name, columns);
  append_wrapper(out, dtype, columns, false);
  append_wrapper(out, dtype, columns, true);
  muse_str_append(out, "#endif\n");
}
