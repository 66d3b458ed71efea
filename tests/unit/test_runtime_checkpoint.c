// Checkpoints: round trip to the bit, damage, kills between any two steps of a save, retention.
#include "runtime/checkpoint.h"

#include "runtime/run_state.h"
#include "tests/unit/scratch.h"

#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

TestSuite(checkpoint, .init = scratch_setup, .fini = scratch_teardown);

static float weights[6];
static double moments[6];

static const MuseCheckpointTensor tensors[] = {
    {"layers.0.ffn.up.weight", MUSE_STORED_F32, 2, {2, 3}, weights, MUSE_GROUP_MODEL},
    {"moment.layers.0.ffn.up.weight", MUSE_STORED_F64, 1, {6}, moments, MUSE_GROUP_TRAIN},
};

static void fill(uint64_t step) {
  for (int i = 0; i < 6; i++)
    weights[i] = (float)step + 0.1f * (float)i, moments[i] = 1.0 / (double)(step + 1 + (uint64_t)i);
}

static MuseRunState state_at(uint64_t step) {
  MuseRunState s = {.step = step,
                    .seed = 0xfffffff0,
                    .tokens = step * 1000,
                    .smoothed_loss = 5.369204962423774 / (double)(step + 1),
                    .smoothed_weight = 3.0,
                    .best_validation_loss = INFINITY,
                    .seconds = 0.1,
                    .bad_steps = 2,
                    .stall = {.lowest = step > 1 ? 1.0 / 3 : 0, .lowest_step = step > 1, .told_step = 0,
                              .steps = step > 1 ? step : 0}, // written when something was seen
                    .plan_hash = {0x0123456789abcdef, 0xfedcba9876543210},
                    .config_text = "d_model: 96\n# \xc3\xa9\n"};
  s.cursor = (MuseDataCursor){.fingerprint = 0xdeadbeefcafef00d, .rows = step * 8, .drawn = {step, 0, step * 7}};
  return s;
}

static MuseStatus save(uint64_t step, int keep) {
  MuseRunState state = state_at(step);
  fill(step);
  return muse_checkpoint_save(scratch("run"), &state, tensors, 2, keep, diag);
}

// Opens the newest, checks that tensors and state are those of its step, and returns the step.
static uint64_t load(void) {
  MuseCheckpoint *c;
  assert_ok(muse_checkpoint_open(scratch("run"), &c, diag));
  MuseRunState got = *muse_checkpoint_state(c), want = state_at(got.step);
  cr_assert_str_eq(got.config_text, want.config_text);
  cr_assert(memcmp(&got.stall, &want.stall, sizeof got.stall) == 0);
  cr_assert(got.seed == want.seed && got.tokens == want.tokens && got.bad_steps == want.bad_steps);
  cr_assert(got.smoothed_loss == want.smoothed_loss && got.smoothed_weight == want.smoothed_weight);
  cr_assert(got.best_validation_loss == want.best_validation_loss && got.seconds == want.seconds);
  cr_assert(got.plan_hash.lo == want.plan_hash.lo && got.plan_hash.hi == want.plan_hash.hi);
  cr_assert_eq(memcmp(&got.cursor, &want.cursor, sizeof got.cursor), 0);
  float expected_weights[6];
  double expected_moments[6];
  fill(got.step);
  memcpy(expected_weights, weights, sizeof weights);
  memcpy(expected_moments, moments, sizeof moments);
  memset(weights, 0, sizeof weights);
  memset(moments, 0, sizeof moments);
  assert_ok(muse_checkpoint_restore(c, tensors, 2, diag));
  cr_assert_eq(memcmp(expected_weights, weights, sizeof weights), 0);
  cr_assert_eq(memcmp(expected_moments, moments, sizeof moments), 0);
  muse_checkpoint_close(c);
  return got.step;
}

static bool exists(const char *name) { return access(scratch(name), F_OK) == 0; }

Test(checkpoint, round_trip_and_latest) {
  cr_expect_not(muse_checkpoint_exists(scratch("run")));
  assert_ok(save(10, 0));
  assert_ok(save(20, 0));
  cr_expect(muse_checkpoint_exists(scratch("run")));
  cr_expect_eq(load(), 20);
  MuseStr latest = {0};
  assert_ok(muse_read_file(scratch("run/latest"), 100, &latest, diag));
  cr_expect_str_eq(latest.data, "step-20\n");
  muse_str_free(&latest);
  MuseCheckpoint *c; // one of them by name
  assert_ok(muse_checkpoint_open(scratch("run/step-10"), &c, diag));
  cr_expect_eq(muse_checkpoint_state(c)->step, 10);
  cr_expect(strstr(muse_checkpoint_path(c), "/run/step-10") != NULL);
  cr_expect_str_eq(muse_safetensors_metadata(muse_checkpoint_file(c, MUSE_GROUP_MODEL), "step"), "10");
  muse_checkpoint_close(c);
}

Test(checkpoint, the_newest_are_kept) {
  for (uint64_t s = 1; s <= 12; s++) assert_ok(save(s, 3));
  cr_expect(exists("run/step-12") && exists("run/step-11") && exists("run/step-10"));
  cr_expect(!exists("run/step-9") && !exists("run/step-1") && !exists("run/.step-9.old"));
  cr_expect_eq(load(), 12);
}

Test(checkpoint, the_same_step_again_replaces_it) {
  assert_ok(save(5, 0));
  assert_ok(save(5, 0));
  cr_expect_eq(load(), 5);
  cr_expect(!exists("run/.step-5.tmp") && !exists("run/.step-5.old"));
}

Test(checkpoint, a_left_history_is_set_aside) {
  assert_ok(save(10, 2));
  assert_ok(save(20, 2));
  assert_ok(save(15, 2)); // the run was resumed from 10
  cr_expect_eq(load(), 15);
  cr_expect(exists("run/left-step-20") && exists("run/step-10"));
  cr_expect(scratch_said("lies beyond step 15"));
}

// Flips one bit, or cuts the file, or removes it: the one before is taken, with a warning that names the file.
static void damage_and_check(const char *file, int how) {
  muse_diag_clear(diag);
  assert_ok(save(1, 0));
  assert_ok(save(2, 0));
  char name[100];
  snprintf(name, sizeof name, "run/step-2/%s", file);
  MuseStr text = {0};
  assert_ok(muse_read_file(scratch(name), 1 << 20, &text, diag));
  if (how == 0) text.data[text.len - 30] ^= 4;
  if (how == 1) text.len -= 7;
  if (how == 2) unlink(scratch(name));
  else scratch_file(name, text.data, text.len);
  muse_str_free(&text);
  cr_expect_eq(load(), 1, "%s, damage %d", file, how);
  cr_expect_eq(muse_diag_count(diag, MUSE_WARNING), 1);
  cr_expect(scratch_said("step-2' cannot be used and is passed over"));
  cr_expect(scratch_said(file));
  muse_diag_clear(diag);
  MuseCheckpoint *c; // asked for by name, it is an error
  assert_fails(muse_checkpoint_open(scratch("run/step-2"), &c, diag), MUSE_ERR_INPUT,
               how == 2 && file[0] == 's' ? "step-2" : file);
}

Test(checkpoint, damaged_ones_are_passed_over) {
  static const char *const files[] = {"state.json", "model.safetensors", "train.safetensors"};
  for (int f = 0; f < 3; f++)
    for (int how = 0; how < 3; how++) damage_and_check(files[f], how);
}

Test(checkpoint, every_single_bit_of_the_state_counts) {
  assert_ok(save(1, 0));
  MuseStr text = {0};
  assert_ok(muse_read_file(scratch("run/step-1/state.json"), 1 << 20, &text, diag));
  MuseRunState original = {0};
  MuseStateSeals seals;
  assert_ok(muse_run_state_parse("s", text.data, text.len, &original, &seals, diag));
  for (size_t i = 0; i < text.len; i++) {
    MuseRunState state;
    MuseDiag *d = muse_diag_create();
    text.data[i] ^= 1;
    // White space and equivalent spellings may differ; what is read may not.
    if (muse_run_state_parse("s", text.data, text.len, &state, &seals, d) == MUSE_OK) {
      cr_assert(state.step == original.step && state.smoothed_loss == original.smoothed_loss, "byte %zu", i);
      cr_assert_eq(memcmp(&state.cursor, &original.cursor, sizeof state.cursor), 0);
      cr_assert_str_eq(state.config_text, original.config_text);
      free((char *)state.config_text);
    } else {
      cr_assert_eq(muse_diag_count(d, MUSE_ERROR), 1);
    }
    text.data[i] ^= 1;
    muse_diag_destroy(d);
  }
  free((char *)original.config_text);
  muse_str_free(&text);
}

static int countdown;
static void kill_at_countdown(const char *point) {
  if (countdown-- == 0) raise(SIGKILL);
}

// Saves in a child that is killed at the given point; false when the save has fewer points than that.
static bool save_killed(uint64_t step, int keep, int point) {
  pid_t child = fork();
  if (child == 0) {
    countdown = point;
    muse_checkpoint_test_hook = kill_at_countdown;
    _exit(save(step, keep) == MUSE_OK ? 0 : 1);
  }
  int status;
  cr_assert_eq(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) return true;
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return false;
}

Test(checkpoint, a_kill_at_any_point_leaves_a_loadable_state) {
  int points = 0;
  bool killed = true;
  for (int point = 0; killed; point++) {
    muse_diag_clear(diag);
    cr_assert_eq(muse_remove_tree(scratch("run"), diag), MUSE_OK);
    assert_ok(save(1, 2));
    assert_ok(save(2, 2));
    killed = save_killed(3, 2, point);
    uint64_t step = load();
    cr_assert(step == 2 || step == 3, "step %d after a kill at point %d", (int)step, point);
    cr_assert_eq(muse_diag_count(diag, MUSE_WARNING), 0); // nothing half-made is ever seen
    points += killed;
    assert_ok(save(4, 2)); // and the next save cleans up
    cr_assert_eq(load(), 4);
    cr_assert(!exists("run/.step-3.tmp") && !exists("run/.step-1.old"));
  }
  cr_expect_geq(points, 9);
}

Test(checkpoint, a_kill_while_the_same_step_is_replaced) {
  bool killed = true;
  for (int point = 0; killed; point++) {
    cr_assert_eq(muse_remove_tree(scratch("run"), diag), MUSE_OK);
    assert_ok(save(3, 1)); // the only one there is
    killed = save_killed(3, 1, point);
    cr_assert_eq(load(), 3);
  }
}

Test(checkpoint, tensors_of_another_plan) {
  assert_ok(save(1, 0));
  MuseCheckpoint *c;
  assert_ok(muse_checkpoint_open(scratch("run"), &c, diag));
  MuseCheckpointTensor t = tensors[0];
  t.shape[1] = 4;
  assert_fails(muse_checkpoint_restore(c, &t, 1, diag), MUSE_ERR_DATA, "is F32 [2,3], the plan needs F32 [2,4]");
  t = tensors[0];
  t.type = MUSE_STORED_BF16;
  assert_fails(muse_checkpoint_restore(c, &t, 1, diag), MUSE_ERR_DATA, "the plan needs BF16 [2,3]");
  t = tensors[0];
  t.name = "layers.1.ffn.up.weight";
  assert_fails(muse_checkpoint_restore(c, &t, 1, diag), MUSE_ERR_DATA,
               "no tensor 'layers.1.ffn.up.weight' (F32 [2,3])");
  muse_checkpoint_close(c);
}

Test(checkpoint, nothing_to_load) {
  MuseCheckpoint *c;
  assert_fails(muse_checkpoint_open(scratch("run"), &c, diag), MUSE_ERR_INPUT, "cannot open the checkpoint folder");
  assert_fails(muse_checkpoint_open(scratch_dir, &c, diag), MUSE_ERR_INPUT, "holds no checkpoint");
  cr_assert_eq(muse_make_dirs(scratch("run/step-7"), 0777, diag), MUSE_OK);
  cr_assert_eq(muse_make_dirs(scratch("run/step-007"), 0777, diag), MUSE_OK);
  cr_assert_eq(muse_make_dirs(scratch("run/step-7x"), 0777, diag), MUSE_OK);
  assert_fails(muse_checkpoint_open(scratch("run"), &c, diag), MUSE_ERR_INPUT, "none of the 1 checkpoints");
}

Test(checkpoint, a_failed_save_is_a_sentence_and_leaves_nothing) {
  assert_ok(save(1, 0));
  MuseCheckpointTensor bad = tensors[0];
  bad.name = "\xff\xfe";
  MuseRunState state = state_at(2);
  assert_fails(muse_checkpoint_save(scratch("run"), &state, &bad, 1, 0, diag), MUSE_ERR_FAILED, "not UTF-8");
  cr_expect(!exists("run/.step-2.tmp") && !exists("run/step-2"));
  cr_expect_eq(load(), 1);
}
