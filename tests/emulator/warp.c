// What lanes of a warp do together: shuffles, and tiles of matrices (PTX ISA, "Matrix fragments for mma", "ldmatrix").
// Sums of floating-point products are exact in double and rounded once; a GPU's tensor cores keep fewer bits.
#include "tests/emulator/execute.h"

#include <stdint.h>
#include <string.h>

static void shuffle(unsigned mask, void *const *operands) {
  for (int lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    EmuShuffle *x = operands[lane];
    const bool there = x->from >= 0 && x->from < 32 && mask >> x->from & 1;
    // Of a lane that takes no part nothing is defined: all ones are a NaN.
    x->result = there ? ((const EmuShuffle *)operands[x->from])->value : ~0ull;
  }
}

static void ballot(unsigned mask, void *const *operands) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; lane++)
    if (mask >> lane & 1) votes |= ((const EmuBallot *)operands[lane])->vote << lane;
  for (int lane = 0; lane < 32; lane++)
    if (mask >> lane & 1) ((EmuBallot *)operands[lane])->result = votes;
}

// Four matrices of 8 rows of 16 bytes; lane 8 m + r has the address of row r of matrix m.
static void ldmatrix(bool transposed, void *const *operands, const unsigned char *shared) {
  for (int m = 0; m < 4; m++) {
    uint16_t x[8][8];
    for (int row = 0; row < 8; row++)
      memcpy(x[row], shared + ((const EmuLdmatrix *)operands[8 * m + row])->address, sizeof x[row]);
    for (int lane = 0; lane < 32; lane++) {
      const int row = lane / 4, column = lane % 4 * 2;
      const unsigned low = transposed ? x[column][row] : x[row][column];
      const unsigned high = transposed ? x[column + 1][row] : x[row][column + 1];
      ((EmuLdmatrix *)operands[lane])->result[m] = low | high << 16;
    }
  }
}

// ---- products ----

static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float from_bf16(unsigned bits) { return float_of(bits << 16); }

static float from_f16(unsigned bits) {
  const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
  return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

// Sums of an m16n8 tile that a lane holds: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
static int row_of(int lane, int i) { return lane / 4 + i / 2 * 8; }
static int column_of(int lane, int i) { return lane % 4 * 2 + i % 2; }

static void multiply_floats(int K, float (*a)[16], float (*b)[8], void *const *operands) {
  double sum[16][8];
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 4; i++)
      sum[row_of(lane, i)][column_of(lane, i)] = float_of(((const EmuMma *)operands[lane])->c[i]);
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < K; k++)
      for (int n = 0; n < 8; n++) sum[row][n] += (double)a[row][k] * b[k][n];
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 4; i++)
      ((EmuMma *)operands[lane])->d[i] = bits_of((float)sum[row_of(lane, i)][column_of(lane, i)]);
}

// K elements of 16 bits in pairs: register i of A is (g + i % 2 * 8, 2t + i / 2 * 8), of B (2t + i * 8, g).
static void multiply_halves(int K, float (*convert)(unsigned), void *const *operands) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const EmuMma *m = operands[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < K / 4; i++)
      for (int h = 0; h < 2; h++)
        a[g + i % 2 * 8][2 * t + h + i / 2 * 8] = convert(m->a[i] >> 16 * h & 0xffffu);
    for (int i = 0; i < K / 8; i++)
      for (int h = 0; h < 2; h++) b[2 * t + h + i * 8][g] = convert(m->b[i] >> 16 * h & 0xffffu);
  }
  multiply_floats(K, a, b, operands);
}

// Floats of which the upper 19 bits count: register i of A is (g + i % 2 * 8, t + i / 2 * 4), of B (t + i * 4, g).
static void multiply_tf32(void *const *operands) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const EmuMma *m = operands[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) a[g + i % 2 * 8][t + i / 2 * 4] = float_of(m->a[i] & 0xffffe000u);
    for (int i = 0; i < 2; i++) b[t + i * 4][g] = float_of(m->b[i] & 0xffffe000u);
  }
  multiply_floats(8, a, b, operands);
}

static int byte_of(unsigned word, int i, bool is_signed) {
  const unsigned byte = word >> 8 * i & 255u;
  return is_signed ? (int8_t)byte : (int)byte;
}

// Bytes in fours: register i of A is (g + i % 2 * 8, 4t + i / 2 * 16), of B (4t + i * 16, g); m8n8k16: the first.
static void multiply_bytes(bool small, void *const *operands) {
  int a[16][32] = {{0}}, b[32][8] = {{0}};
  uint32_t sum[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const EmuMma *m = operands[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < (small ? 1 : 4); i++)
      for (int e = 0; e < 4; e++) a[g + i % 2 * 8][4 * t + e + i / 2 * 16] = byte_of(m->a[i], e, m->a_is_signed);
    for (int i = 0; i < (small ? 1 : 2); i++)
      for (int e = 0; e < 4; e++) b[4 * t + e + i * 16][g] = byte_of(m->b[i], e, m->b_is_signed);
    for (int i = 0; i < (small ? 2 : 4); i++) sum[row_of(lane, i)][column_of(lane, i)] = m->c[i];
  }
  const int K = small ? 16 : 32, rows = small ? 8 : 16;
  for (int row = 0; row < rows; row++)
    for (int k = 0; k < K; k++)
      for (int n = 0; n < 8; n++) sum[row][n] += (uint32_t)(a[row][k] * b[k][n]);
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < (small ? 2 : 4); i++)
      ((EmuMma *)operands[lane])->d[i] = sum[row_of(lane, i)][column_of(lane, i)];
}

void emu_warp(unsigned kind, unsigned mask, void *const *operands, unsigned char *shared) {
  switch (kind) {
  case EMU_WARP_SHUFFLE: shuffle(mask, operands); break;
  case EMU_WARP_BALLOT: ballot(mask, operands); break;
  case EMU_WARP_LDMATRIX: ldmatrix(false, operands, shared); break;
  case EMU_WARP_LDMATRIX_TRANS: ldmatrix(true, operands, shared); break;
  case EMU_WARP_MMA + EMU_MMA_BF16_K16: multiply_halves(16, from_bf16, operands); break;
  case EMU_WARP_MMA + EMU_MMA_F16_K16: multiply_halves(16, from_f16, operands); break;
  case EMU_WARP_MMA + EMU_MMA_F16_K8: multiply_halves(8, from_f16, operands); break;
  case EMU_WARP_MMA + EMU_MMA_TF32_K8: multiply_tf32(operands); break;
  case EMU_WARP_MMA + EMU_MMA_BYTES_K32: multiply_bytes(false, operands); break;
  case EMU_WARP_MMA + EMU_MMA_BYTES_M8: multiply_bytes(true, operands); break;
  default: break; // EMU_WARP_SYNC
  }
}
