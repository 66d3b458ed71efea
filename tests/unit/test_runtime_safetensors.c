// Safetensors: what is written reads back, and damaged files are refused with a sentence that names the tensor.
#include "runtime/safetensors.h"

#include "tests/unit/scratch.h"

#include <math.h>
#include <stdint.h>

TestSuite(safetensors, .init = scratch_setup, .fini = scratch_teardown);

// A file of the given JSON header and n_data zero bytes, in memory.
static MuseStatus parse(const char *header, size_t n_data, MuseSafetensors **out_file) {
  static uint8_t bytes[1 << 16];
  uint64_t length = strlen(header);
  memcpy(bytes, &length, 8);
  memcpy(bytes + 8, header, length);
  memset(bytes + 8 + length, 0, n_data);
  return muse_safetensors_parse("hostile", bytes, 8 + length + n_data, out_file, diag);
}

Test(safetensors, every_type_survives) {
  MuseStoredTensor tensors[MUSE_N_STORED_TYPES];
  char names[MUSE_N_STORED_TYPES][16];
  uint8_t data[MUSE_N_STORED_TYPES][48];
  for (int i = 0; i < MUSE_N_STORED_TYPES; i++) {
    snprintf(names[i], sizeof names[i], "t.%s", muse_stored_type_name((MuseStoredType)i));
    for (int b = 0; b < 48; b++) data[i][b] = (uint8_t)(i * 48 + b);
    tensors[i] = muse_stored_tensor(names[i], (MuseStoredType)i, 2, (int64_t[]){2, 3}, data[i]);
  }
  MuseMetadata metadata[] = {{"config", "d_model: 8\n\"quoted\""}, {"step", "7"}};
  MuseHash hash;
  assert_ok(muse_safetensors_write(scratch("a.safetensors"), tensors, MUSE_N_STORED_TYPES, metadata, 2, &hash, diag));
  MuseSafetensors *file;
  assert_ok(muse_safetensors_open(scratch("a.safetensors"), &file, diag));
  cr_assert_eq(muse_safetensors_count(file), MUSE_N_STORED_TYPES);
  cr_expect_str_eq(muse_safetensors_metadata(file, "config"), "d_model: 8\n\"quoted\"");
  cr_expect_null(muse_safetensors_metadata(file, "nothing"));
  cr_expect(hash.lo == muse_safetensors_hash(file).lo && hash.hi == muse_safetensors_hash(file).hi);
  for (int i = 0; i < MUSE_N_STORED_TYPES; i++) {
    const MuseStoredTensor *t = muse_safetensors_find(file, names[i]);
    cr_assert_not_null(t);
    cr_expect_eq((int)t->type, i);
    cr_expect(t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3 && t->count == 6);
    cr_expect_eq(memcmp(t->data, data[i], t->bytes), 0);
    cr_expect_eq(t, muse_safetensors_at(file, (size_t)i));
  }
  muse_safetensors_close(file);
}

Test(safetensors, scalars_and_empty_tensors) {
  float x = 2.5f;
  MuseStoredTensor tensors[] = {muse_stored_tensor("empty", MUSE_STORED_F32, 2, (int64_t[]){0, 9}, NULL),
                                muse_stored_tensor("scalar", MUSE_STORED_F32, 0, NULL, &x)};
  assert_ok(muse_safetensors_write(scratch("a"), tensors, 2, NULL, 0, NULL, diag));
  MuseSafetensors *file;
  assert_ok(muse_safetensors_open(scratch("a"), &file, diag));
  cr_expect_eq(muse_safetensors_find(file, "empty")->count, 0);
  float y = 0;
  assert_ok(muse_stored_read_f32(muse_safetensors_find(file, "scalar"), 0, 1, &y, diag));
  cr_expect_eq(y, 2.5f);
  muse_safetensors_close(file);
}

Test(safetensors, pieces_of_any_size_and_abort) {
  MuseStoredTensor t = muse_stored_tensor("x", MUSE_STORED_U8, 1, (int64_t[]){1000}, NULL);
  MuseSafetensorsWriter *writer;
  assert_ok(muse_safetensors_writer_open(scratch("a"), &t, 1, NULL, 0, &writer, diag));
  cr_expect_neq(access(scratch("a"), F_OK), 0); // not there before finish
  uint8_t piece[300];
  for (int done = 0, n = 1; done < 1000;
       done += n, n = n * 3 < 1000 - done - n ? n * 3 > 300 ? 300 : n * 3 : 1000 - done) {
    if (n > 1000 - done) n = 1000 - done;
    if (n > 300) n = 300;
    for (int i = 0; i < n; i++) piece[i] = (uint8_t)(done + i);
    assert_ok(muse_safetensors_writer_append(writer, piece, (uint64_t)n, diag));
  }
  assert_ok(muse_safetensors_writer_finish(writer, NULL, diag));
  MuseSafetensors *file;
  assert_ok(muse_safetensors_open(scratch("a"), &file, diag));
  const uint8_t *p = muse_safetensors_at(file, 0)->data;
  for (int i = 0; i < 1000; i++) cr_assert_eq(p[i], (uint8_t)i);
  muse_safetensors_close(file);
  assert_ok(muse_safetensors_writer_open(scratch("b"), &t, 1, NULL, 0, &writer, diag));
  muse_safetensors_writer_abort(writer);
  cr_expect_neq(access(scratch("b"), F_OK), 0);
}

Test(safetensors, floats_convert) {
  double f64[] = {0.1, -2};
  uint16_t bf16[] = {0x3f80, 0xc000, 0x7f80}; // 1, -2, inf
  uint16_t f16[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x7e00, 0x8000, 0x03ff};
  MuseStoredTensor a = muse_stored_tensor("a", MUSE_STORED_F64, 1, (int64_t[]){2}, f64);
  MuseStoredTensor b = muse_stored_tensor("b", MUSE_STORED_BF16, 1, (int64_t[]){3}, bf16);
  MuseStoredTensor c = muse_stored_tensor("c", MUSE_STORED_F16, 1, (int64_t[]){8}, f16);
  float out[8];
  assert_ok(muse_stored_read_f32(&a, 0, 2, out, diag));
  cr_expect(out[0] == 0.1f && out[1] == -2.0f);
  assert_ok(muse_stored_read_f32(&b, 1, 2, out, diag));
  cr_expect(out[0] == -2.0f && isinf(out[1]));
  assert_ok(muse_stored_read_f32(&c, 0, 8, out, diag));
  cr_expect(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-24f && out[3] == 65504 && isinf(out[4]) && isnan(out[5]));
  cr_expect(out[6] == 0 && signbit(out[6]) && out[7] == 1023 * 0x1p-24f);
  MuseStoredTensor i = muse_stored_tensor("ids", MUSE_STORED_I8, 1, (int64_t[]){1}, "x");
  assert_fails(muse_stored_read_f32(&i, 0, 1, out, diag), MUSE_ERR_INPUT, "'ids' is I8");
}

Test(safetensors, whole_numbers_convert) {
  int64_t i64[] = {5, -7, (int64_t)1 << 40};
  int16_t i16[] = {-300};
  uint8_t u8[] = {200};
  int32_t out[3];
  MuseStoredTensor a = muse_stored_tensor("a", MUSE_STORED_I64, 1, (int64_t[]){3}, i64);
  assert_ok(muse_stored_read_i32(&a, 0, 2, out, diag));
  cr_expect(out[0] == 5 && out[1] == -7);
  assert_fails(muse_stored_read_i32(&a, 0, 3, out, diag), MUSE_ERR_INPUT, "element 2 of tensor 'a' is 1099511627776");
  MuseStoredTensor b = muse_stored_tensor("b", MUSE_STORED_I16, 1, (int64_t[]){1}, i16);
  MuseStoredTensor c = muse_stored_tensor("c", MUSE_STORED_U8, 1, (int64_t[]){1}, u8);
  MuseStoredTensor d = muse_stored_tensor("d", MUSE_STORED_I8, 1, (int64_t[]){1}, u8);
  assert_ok(muse_stored_read_i32(&b, 0, 1, out, diag));
  assert_ok(muse_stored_read_i32(&c, 0, 1, out + 1, diag));
  assert_ok(muse_stored_read_i32(&d, 0, 1, out + 2, diag));
  cr_expect(out[0] == -300 && out[1] == 200 && out[2] == -56);
}

Test(safetensors, a_missing_name_gets_the_nearest) {
  MuseSafetensors *file;
  const MuseStoredTensor *t;
  assert_ok(parse("{\"final_norm.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, &file));
  assert_fails(muse_safetensors_get(file, "final_norm.wieght", &t, diag), MUSE_ERR_INPUT,
               "nearest name is 'final_norm.weight'");
  muse_safetensors_close(file);
}

typedef struct Hostile { const char *header; size_t n_data; const char *sentence; } Hostile;

#define T(type, shape, offsets) "{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const Hostile hostile[] = {
    {"", 0, "not valid JSON"},
    {"[1]", 0, "not a JSON object"},
    {"{\"a\":", 0, "not valid JSON"},
    {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[0,4]") "}", 4, "duplicate"},
    {"{\"a\":7}", 0, "'a' is not an object"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'a' has no \"dtype\""},
    {"{\"a\":" T("F8_E4M3", "[4]", "[0,4]") "}", 4, "'a' has the unsupported dtype 'F8_E4M3'"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "'a' has no \"shape\""},
    {"{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, "dimension 0 of tensor 'a'"},
    {"{\"a\":" T("F32", "[1.0]", "[0,4]") "}", 4, "dimension 0 of tensor 'a'"},
    {"{\"a\":" T("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "'a' has 9 dimensions"},
    {"{\"a\":" T("F32", "[4611686018427387904,4]", "[0,4]") "}", 4, "'a' overflows"},
    {"{\"a\":" T("F64", "[2305843009213693952]", "[0,4]") "}", 4, "'a' overflows"},
    {"{\"a\":" T("F32", "[1]", "[0]") "}", 4, "'a' has no \"data_offsets\""},
    {"{\"a\":" T("F32", "[1]", "[0,\"4\"]") "}", 4, "'a' has no \"data_offsets\""},
    {"{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, "of tensor 'a' are out of order"},
    {"{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, "of tensor 'a' are out of order"},
    {"{\"a\":" T("F32", "[2]", "[0,8]") "}", 4, "'a' ends at byte 8 but the file holds 4"},
    {"{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, "'a' is F32 [2], 8 bytes, but its data_offsets span 4"},
    {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[2,6]") "}", 6, "'a' and 'b' overlap"},
    {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[0,4]") "}", 4, "'a' and 'b' overlap"},
    {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[6,10]") "}", 10, "2 bytes before tensor 'b'"},
    {"{\"a\":" T("F32", "[1]", "[0,4]") "}", 7, "3 bytes after the last tensor"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "value of 'a' in __metadata__"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {"{\"a\":" T("F32", "[1e3]", "[0,4]") "}", 4, "dimension 0"},
    {"{\"a\":" T("F32", "[99999999999999999999]", "[0,4]") "}", 4, "not valid JSON"},
};

Test(safetensors, hostile_headers) {
  for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
    MuseSafetensors *file;
    assert_fails(parse(hostile[i].header, hostile[i].n_data, &file), MUSE_ERR_INPUT, hostile[i].sentence);
    cr_assert_null(file);
  }
}

Test(safetensors, hostile_files) {
  MuseSafetensors *file;
  uint64_t huge[2] = {UINT64_MAX, 0};
  assert_fails(muse_safetensors_open(scratch("absent"), &file, diag), MUSE_ERR_INPUT, "absent");
  assert_fails(muse_safetensors_open(scratch_dir, &file, diag), MUSE_ERR_INPUT, "not a regular file");
  assert_fails(muse_safetensors_open(scratch_file("e", "", 0), &file, diag), MUSE_ERR_INPUT, "0 bytes, too few");
  assert_fails(muse_safetensors_open(scratch_file("s", "1234567", 7), &file, diag), MUSE_ERR_INPUT, "7 bytes, too few");
  assert_fails(muse_safetensors_open(scratch_file("h", huge, 16), &file, diag), MUSE_ERR_INPUT,
               "its header would have");
}

Test(safetensors, deep_nesting_is_refused_quickly) {
  static char header[60000];
  memset(header, '[', sizeof header - 1);
  MuseSafetensors *file;
  assert_fails(parse(header, 0, &file), MUSE_ERR_INPUT, "not valid JSON");
}

Test(safetensors, writer_refuses_bad_names) {
  uint8_t x[2] = {0};
  MuseStoredTensor twice[] = {muse_stored_tensor("a", MUSE_STORED_U8, 1, (int64_t[]){1}, x),
                              muse_stored_tensor("a", MUSE_STORED_U8, 1, (int64_t[]){1}, x)};
  assert_fails(muse_safetensors_write(scratch("a"), twice, 2, NULL, 0, NULL, diag), MUSE_ERR_FAILED,
               "two tensors are called 'a'");
  twice[0].name = "\xff";
  assert_fails(muse_safetensors_write(scratch("a"), twice, 1, NULL, 0, NULL, diag), MUSE_ERR_FAILED, "not UTF-8");
  cr_expect_neq(access(scratch("a"), F_OK), 0);
}
