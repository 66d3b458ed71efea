// TensorBoard's event files: checksums, frames, what a resumed run keeps.
#include "runtime/events.h"

#include "tests/unit/scratch.h"

#include <dirent.h>
#include <sys/stat.h>

TestSuite(events, .init = scratch_setup, .fini = scratch_teardown);

static void write_steps(int64_t resumed, int64_t first, int64_t last) {
  MuseEvents *e;
  assert_ok(muse_events_open(scratch_dir, resumed, &e, diag));
  for (int64_t s = first; s <= last; s++) {
    muse_events_begin(e, s);
    muse_events_scalar(e, "loss", 1.0 / (double)s);
    muse_events_text(e, "sample", "a\xff\nb", 4);
    muse_events_trits(e, "trits/0", (int64_t[3]){1, 2, s});
    assert_ok(muse_events_end(e, diag));
  }
  assert_ok(muse_events_close(e, diag));
}

// Number of records in all files of the folder; each must have the right checksums. out_largest: size of a file.
static int count_records(char *out_path) {
  DIR *d = opendir(scratch_dir);
  int records = 0;
  for (struct dirent *entry; (entry = readdir(d));) {
    if (!strstr(entry->d_name, "tfevents") || !muse_str_ends_with(entry->d_name, ".muse")) continue;
    MuseStr data = {0};
    if (out_path) strcpy(out_path, scratch(entry->d_name));
    assert_ok(muse_read_file(scratch(entry->d_name), 1 << 20, &data, diag));
    for (size_t at = 0; at < data.len; records++) {
      uint64_t bytes;
      uint32_t head, tail;
      cr_assert_leq(at + 16, data.len);
      memcpy(&bytes, data.data + at, 8);
      memcpy(&head, data.data + at + 8, 4);
      cr_assert_leq(at + 16 + bytes, data.len);
      memcpy(&tail, data.data + at + 12 + bytes, 4);
      cr_assert_eq(head, muse_masked_crc32c(data.data + at, 8));
      cr_assert_eq(tail, muse_masked_crc32c(data.data + at + 12, bytes));
      at += 16 + bytes;
    }
    muse_str_free(&data);
  }
  closedir(d);
  return records;
}

// The check value of CRC-32C, and the vectors of RFC 3720, B.4.
Test(events, checksums_are_those_of_the_standard) {
  unsigned char zeros[32] = {0}, ones[32], rising[32];
  memset(ones, 255, 32);
  for (int i = 0; i < 32; i++) rising[i] = (unsigned char)i;
  cr_expect_eq(muse_crc32c("123456789", 9), 0xe3069283);
  cr_expect_eq(muse_crc32c(zeros, 32), 0x8a9136aa);
  cr_expect_eq(muse_crc32c(ones, 32), 0x62a8ab43);
  cr_expect_eq(muse_crc32c(rising, 32), 0x46dd794e);
  cr_expect_eq(muse_crc32c("", 0), 0);
}

Test(events, a_resumed_run_keeps_its_own_steps) {
  write_steps(-1, 1, 10);
  cr_expect_eq(count_records(NULL), 12); // version, start, ten steps
  write_steps(6, 7, 9);
  cr_expect_eq(count_records(NULL), 2 + 6 + 2 + 3);
  write_steps(8, 9, 9); // cuts the second file
  cr_expect_eq(count_records(NULL), 2 + 6 + 2 + 2 + 2 + 1);
  write_steps(0, 1, 1); // nothing of the three files is left
  cr_expect_eq(count_records(NULL), 2 + 1);
  write_steps(-1, 1, 2);
  cr_expect_eq(count_records(NULL), 2 + 2);
}

Test(events, torn_and_foreign_files) {
  char path[400];
  write_steps(-1, 1, 10);
  cr_expect_eq(count_records(path), 12);
  struct stat st;
  cr_assert_eq(stat(path, &st), 0);
  cr_assert_eq(truncate(path, st.st_size - 3), 0); // as after a loss of power
  scratch_file("events.out.tfevents.1.host", "not ours", 8);
  write_steps(10, 11, 11);
  cr_expect_eq(count_records(NULL), 11 + 2 + 1);
  MuseStr other = {0};
  assert_ok(muse_read_file(scratch("events.out.tfevents.1.host"), 100, &other, diag));
  cr_expect_str_eq(other.data, "not ours");
  muse_str_free(&other);
}

Test(events, every_damage_to_a_file_only_shortens_it) {
  char path[400];
  write_steps(-1, 1, 3);
  count_records(path);
  MuseStr good = {0};
  assert_ok(muse_read_file(path, 1 << 20, &good, diag));
  for (size_t i = 0; i < good.len; i++) {
    char kept = good.data[i];
    good.data[i] = (char)(kept ^ 0x41);
    scratch_file(strrchr(path, '/') + 1, good.data, good.len);
    MuseEvents *e;
    assert_ok(muse_events_open(scratch_dir, 3, &e, diag));
    assert_ok(muse_events_close(e, diag));
    cr_assert_leq(count_records(NULL), 4 + 2, "byte %zu", i);
    assert_ok(muse_events_open(scratch_dir, -1, &e, diag));
    assert_ok(muse_events_close(e, diag));
    good.data[i] = kept;
  }
  muse_str_free(&good);
}

Test(events, a_folder_that_is_not_there) {
  MuseEvents *e;
  assert_fails(muse_events_open("/nowhere/run", -1, &e, diag), MUSE_ERR_FAILED, "/nowhere/run");
}
