// Checked arithmetic, status propagation and the assertion that stays in release builds.
#include "ir/base/checked.h"
#include "ir/base/status.h"

#include <criterion/criterion.h>
#include <signal.h>

Test(base_checked, add_u64) {
  uint64_t out = 7;
  cr_assert(muse_add_u64(UINT64_MAX - 1, 1, &out));
  cr_assert_eq(out, UINT64_MAX);
  cr_assert_not(muse_add_u64(UINT64_MAX, 1, &out));
  cr_assert_eq(out, UINT64_MAX, "the result stays untouched on overflow");
}

Test(base_checked, mul_u64) {
  uint64_t out = 7;
  cr_assert(muse_mul_u64(1ull << 32, (1ull << 32) - 1, &out));
  cr_assert_eq(out, UINT64_MAX - (1ull << 32) + 1);
  out = 7;
  cr_assert_not(muse_mul_u64(1ull << 32, 1ull << 32, &out));
  cr_assert_eq(out, 7);
  cr_assert(muse_mul_u64(0, UINT64_MAX, &out));
  cr_assert_eq(out, 0);
}

Test(base_checked, mul_size_i64) {
  int64_t out = 7;
  cr_assert_not(muse_mul_size_i64(-1, 3, &out));
  cr_assert_not(muse_mul_size_i64(3, -1, &out));
  cr_assert_not(muse_mul_size_i64(-3, -3, &out));
  cr_assert_not(muse_mul_size_i64(INT64_MAX, 2, &out));
  cr_assert_eq(out, 7);
  cr_assert(muse_mul_size_i64(20480, 5120, &out));
  cr_assert_eq(out, 104857600);
}

Test(base_checked, rounding) {
  cr_assert_eq(muse_ceil_div(0, 5), 0);
  cr_assert_eq(muse_ceil_div(1, 5), 1);
  cr_assert_eq(muse_ceil_div(5, 5), 1);
  cr_assert_eq(muse_ceil_div(6, 5), 2);
  cr_assert_eq(muse_round_up(65, 64), 128);
  cr_assert_eq(muse_round_up(64, 64), 64);
}

static MuseStatus try_status(MuseStatus inner, bool *out_passed) {
  *out_passed = false;
  MUSE_TRY(inner);
  *out_passed = true;
  return MUSE_OK;
}

Test(base_status, try_returns_every_status_but_ok) {
  bool passed;
  cr_assert_eq(try_status(MUSE_OK, &passed), MUSE_OK);
  cr_assert(passed);
  cr_assert_eq(try_status(MUSE_ERR_NO_FIT, &passed), MUSE_ERR_NO_FIT);
  cr_assert_not(passed);
  cr_assert_eq(try_status(MUSE_ERR_STOPPED, &passed), 75);
}

Test(base_status, assert_aborts, .signal = SIGABRT) { MUSE_ASSERT(1 + 1 == 3); }

Test(base_status, assert_passes_and_evaluates_once) {
  int n = 0;
  MUSE_ASSERT(++n == 1);
  cr_assert_eq(n, 1);
}

Test(base_status, out_of_memory_aborts, .signal = SIGABRT) { muse_out_of_memory(1); }
