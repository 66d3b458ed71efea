// muse-data inspect: what a token set holds, and documents of it as text.
#include "ir/base/philox.h"
#include "runtime/data_commands.h"
#include "runtime/metrics.h"
#include "runtime/tokenizer.h"
#include "runtime/tokens.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_BUCKETS = 48 };

typedef struct Lengths {
  int64_t buckets[N_BUCKETS]; // documents of [2^(i-1), 2^i) tokens; bucket 0: empty ones
  int64_t shortest, longest;
} Lengths;

static Lengths measure_lengths(const MuseTokens *tokens) {
  Lengths l = {.shortest = INT64_MAX};
  int64_t n = muse_tokens_info(tokens)->n_documents;
  for (int64_t i = 0; i < n; i++) {
    int64_t first, length;
    int bucket = 0;
    muse_tokens_document(tokens, i, &first, &length);
    while (bucket < N_BUCKETS - 1 && length >> bucket > 0) bucket++;
    l.buckets[bucket]++;
    if (length < l.shortest) l.shortest = length;
    if (length > l.longest) l.longest = length;
  }
  if (n == 0) l.shortest = 0;
  return l;
}

enum { N_FREQUENT = 16 };

typedef struct Scan {
  int64_t largest_id;
  int64_t n_different;
  double entropy; // of single tokens, nats
  int32_t frequent[N_FREQUENT]; // the most frequent ids, and how often each occurs
  int64_t count[N_FREQUENT];
  int n_frequent;
} Scan;

// Keeps the list sorted; of equally frequent ids the lower one comes first.
static void note_frequent(Scan *scan, int32_t id, int64_t count) {
  int at = scan->n_frequent;
  while (at > 0 && scan->count[at - 1] < count) at--;
  if (at == N_FREQUENT) return;
  if (scan->n_frequent < N_FREQUENT) scan->n_frequent++;
  for (int i = scan->n_frequent - 1; i > at; i--)
    scan->count[i] = scan->count[i - 1], scan->frequent[i] = scan->frequent[i - 1];
  scan->count[at] = count;
  scan->frequent[at] = id;
}

// Reads every id. Counts are kept for ids below 2^20, beyond that only the largest is known.
static MuseStatus scan_ids(const MuseTokens *tokens, Scan *out_scan, MuseDiag *diag) {
  const MuseTokensInfo *info = muse_tokens_info(tokens);
  enum { COUNTED = 1 << 20, PIECE = 65536 };
  int64_t *counts = calloc(COUNTED, sizeof *counts);
  int32_t *ids = malloc(PIECE * sizeof *ids);
  if (!counts || !ids) muse_out_of_memory(COUNTED * sizeof *counts);
  *out_scan = (Scan){.largest_id = -1};
  MuseStatus status = MUSE_OK;
  for (int64_t done = 0; done < info->n_tokens && status == MUSE_OK; done += PIECE) {
    int64_t n = info->n_tokens - done < PIECE ? info->n_tokens - done : PIECE;
    status = muse_tokens_read(tokens, done, n, info->vocab_size, ids, diag);
    for (int64_t i = 0; i < n && status == MUSE_OK; i++) {
      if (ids[i] > out_scan->largest_id) out_scan->largest_id = ids[i];
      if (ids[i] < COUNTED) counts[ids[i]]++;
    }
  }
  for (int i = 0; i < COUNTED; i++) {
    if (counts[i] == 0) continue;
    double p = (double)counts[i] / (double)info->n_tokens;
    out_scan->n_different++;
    out_scan->entropy -= p * log(p);
    note_frequent(out_scan, i, counts[i]);
  }
  free(counts);
  free(ids);
  return status;
}

// The text of a document's beginning, or its ids when the tokenizer is unknown.
static MuseStatus document_text(const MuseTokens *tokens, const MuseTokenizer *tokenizer, int64_t document,
                                int64_t max_tokens, MuseStr *out, MuseDiag *diag) {
  int64_t first, length;
  muse_tokens_document(tokens, document, &first, &length);
  int64_t n = length < max_tokens ? length : max_tokens;
  int32_t *ids = malloc((size_t)(n + 1) * sizeof *ids);
  if (!ids) muse_out_of_memory((size_t)n * sizeof *ids);
  MuseStatus status = muse_tokens_read(tokens, first, n, muse_tokens_info(tokens)->vocab_size, ids, diag);
  if (status == MUSE_OK && tokenizer) muse_tokenizer_decode(tokenizer, ids, (size_t)n, out);
  for (int64_t i = 0; i < n && status == MUSE_OK && !tokenizer; i++)
    muse_str_appendf(out, "%s%d", i ? " " : "", ids[i]);
  free(ids);
  return status;
}

static int64_t pick_document(const MuseInspectOptions *o, int64_t i, int64_t n_documents) {
  if (o->document >= 0) return o->document;
  return (int64_t)(muse_random_uniform((uint64_t)i, 0, (uint32_t)o->seed, 0) * (double)n_documents);
}

static void print_histogram(const Lengths *l, FILE *out) {
  int64_t most = 1;
  for (int i = 0; i < N_BUCKETS; i++) most = l->buckets[i] > most ? l->buckets[i] : most;
  fprintf(out, "tokens in a document    documents\n");
  for (int i = 0; i < N_BUCKETS; i++) {
    if (l->buckets[i] == 0) continue;
    int64_t low = i ? (int64_t)1 << (i - 1) : 0, high = i ? ((int64_t)1 << i) - 1 : 0;
    fprintf(out, "%10" PRId64 " - %-10" PRId64 "%9" PRId64 " ", low, high, l->buckets[i]);
    for (int64_t c = 0; c < (40 * l->buckets[i] + most - 1) / most; c++) fputc('#', out);
    fputc('\n', out);
  }
}

// A token's text as far as it can be shown on one line.
static void token_text(const MuseTokenizer *tokenizer, int32_t id, MuseStr *out) {
  MuseStr bytes = {0}, shown = {0};
  if (tokenizer) muse_tokenizer_decode_next(tokenizer, id, &bytes);
  muse_text_append_printable(&shown, muse_str_text(&bytes), bytes.len);
  for (size_t i = 0; i < shown.len; i++) {
    char c = shown.data[i];
    if (c == '\n' || c == '\t') muse_str_append(out, c == '\n' ? "\\n" : "\\t");
    else muse_str_append_n(out, &c, 1);
  }
  muse_str_free(&bytes);
  muse_str_free(&shown);
}

static void print_frequent(const Scan *scan, int64_t n_tokens, const MuseTokenizer *tokenizer, FILE *out) {
  fprintf(out, "most frequent tokens        count\n");
  for (int i = 0; i < scan->n_frequent; i++) {
    MuseStr text = {0};
    token_text(tokenizer, scan->frequent[i], &text);
    fprintf(out, "%10d %22" PRId64 " %5.1f %% ", scan->frequent[i], scan->count[i],
            100 * (double)scan->count[i] / (double)n_tokens);
    for (int64_t c = 0; c < (40 * scan->count[i] + scan->count[0] - 1) / scan->count[0]; c++) fputc('#', out);
    if (text.len) fprintf(out, " '%s'", text.data);
    fputc('\n', out);
    muse_str_free(&text);
  }
}

static void print_info(const MuseTokensInfo *info, const Lengths *l, const Scan *scan, FILE *out) {
  MuseStr size = {0};
  muse_str_append_bytes(&size, (uint64_t)info->n_tokens * (uint64_t)info->token_bytes);
  fprintf(out, "%s: version %d, %" PRId64 " documents, %" PRId64 " tokens of %d bytes (%s)\n", info->name,
          info->version, info->n_documents, info->n_tokens, info->token_bytes, size.data);
  muse_str_free(&size);
  if (info->version >= 2)
    fprintf(out, "tokenizer %s (hash %016" PRIx64 "), vocabulary %" PRId64 "\n", info->tokenizer, info->tokenizer_hash,
            info->vocab_size);
  fprintf(out, "documents of %" PRId64 " to %" PRId64 " tokens, %.1f on average\n", l->shortest, l->longest,
          info->n_documents ? (double)info->n_tokens / (double)info->n_documents : 0);
  if (scan)
    fprintf(out,
            "all ids are valid: the largest is %" PRId64 ", %" PRId64 " different ones, entropy %.4f nats a token\n",
            scan->largest_id, scan->n_different, scan->entropy);
  print_histogram(l, out);
}

static void json_info(const MuseTokensInfo *info, const Lengths *l, const Scan *scan, MuseStr *s) {
  muse_str_append(s, "{\"name\":");
  muse_json_append_text(s, info->name, strlen(info->name));
  muse_str_appendf(s, ",\"version\":%d,\"documents\":%" PRId64 ",\"tokens\":%" PRId64 ",\"token_bytes\":%d",
                   info->version, info->n_documents, info->n_tokens, info->token_bytes);
  if (info->version >= 2) {
    muse_str_append(s, ",\"tokenizer\":");
    muse_json_append_text(s, info->tokenizer, strlen(info->tokenizer));
    muse_str_appendf(s, ",\"tokenizer_hash\":\"%016" PRIx64 "\",\"vocab_size\":%" PRId64, info->tokenizer_hash,
                     info->vocab_size);
  }
  muse_str_appendf(s, ",\"shortest\":%" PRId64 ",\"longest\":%" PRId64 ",\"lengths\":[", l->shortest, l->longest);
  bool comma = false;
  for (int i = 0; i < N_BUCKETS; i++) {
    if (l->buckets[i] == 0) continue;
    muse_str_appendf(s, "%s{\"from\":%" PRId64 ",\"documents\":%" PRId64 "}", comma ? "," : "",
                     i ? (int64_t)1 << (i - 1) : 0, l->buckets[i]);
    comma = true;
  }
  muse_str_append(s, "]");
  if (scan) {
    muse_str_appendf(s, ",\"largest_id\":%" PRId64 ",\"different_ids\":%" PRId64 ",\"entropy\":", scan->largest_id,
                     scan->n_different);
    muse_json_append_real(s, scan->entropy);
    muse_str_append(s, ",\"frequent\":[");
    for (int i = 0; i < scan->n_frequent; i++)
      muse_str_appendf(s, "%s{\"id\":%d,\"count\":%" PRId64 "}", i ? "," : "", scan->frequent[i], scan->count[i]);
    muse_str_append(s, "]");
  }
  muse_str_append(s, ",\"samples\":[");
}

static MuseStatus print_documents(const MuseInspectOptions *o, const MuseTokens *tokens, const MuseTokenizer *tokenizer,
                                  MuseStr *json, FILE *out, MuseDiag *diag) {
  const MuseTokensInfo *info = muse_tokens_info(tokens);
  int64_t n = o->document >= 0 ? 1 : o->n_documents;
  for (int64_t i = 0; i < n && info->n_documents > 0; i++) {
    int64_t document = pick_document(o, i, info->n_documents), first, length;
    MuseStr text = {0}, shown = {0};
    muse_tokens_document(tokens, document, &first, &length);
    MuseStatus status = document_text(tokens, tokenizer, document, o->max_tokens, &text, diag);
    muse_text_append_printable(&shown, muse_str_text(&text), text.len);
    if (json) {
      muse_str_appendf(json, "%s{\"document\":%" PRId64 ",\"first\":%" PRId64 ",\"length\":%" PRId64 ",\"text\":",
                       i ? "," : "", document, first, length);
      muse_json_append_text(json, muse_str_text(&shown), shown.len);
      muse_str_append(json, "}");
    } else {
      fprintf(out, "\n--- document %" PRId64 ": %" PRId64 " tokens from token %" PRId64 " on%s\n%s\n", document, length,
              first, length > o->max_tokens ? ", its beginning" : "", muse_str_text(&shown));
    }
    muse_str_free(&text);
    muse_str_free(&shown);
    MUSE_TRY(status);
  }
  return MUSE_OK;
}

static MuseStatus inspect(const MuseInspectOptions *o, const MuseTokens *tokens, const MuseTokenizer *tokenizer,
                          FILE *out, MuseDiag *diag) {
  const MuseTokensInfo *info = muse_tokens_info(tokens);
  if (o->document >= info->n_documents)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' has %" PRId64 " documents, so the last is number %" PRId64,
                      info->name, info->n_documents, info->n_documents - 1);
  Lengths lengths = measure_lengths(tokens);
  Scan scan;
  if (o->scan) MUSE_TRY(scan_ids(tokens, &scan, diag));
  if (!o->json) {
    print_info(info, &lengths, o->scan ? &scan : NULL, out);
    if (o->scan) print_frequent(&scan, info->n_tokens, tokenizer, out);
    return print_documents(o, tokens, tokenizer, NULL, out, diag);
  }
  MuseStr json = {0};
  json_info(info, &lengths, o->scan ? &scan : NULL, &json);
  MuseStatus status = print_documents(o, tokens, tokenizer, &json, out, diag);
  if (status == MUSE_OK) fprintf(out, "%s]}\n", json.data);
  muse_str_free(&json);
  return status;
}

// "bytes", or the copy of the tokenizer that lies beside the set; nothing when the set does not say, or it is gone.
static void find_tokenizer(const MuseTokensInfo *info, MuseStr *out_path) {
  if (muse_str_eq(info->tokenizer, "bytes")) {
    muse_str_append(out_path, "bytes");
    return;
  }
  for (int json = 1; json >= 0 && info->tokenizer[0]; json--) {
    muse_tokens_tokenizer_path(info->name, json, out_path);
    if (access(out_path->data, R_OK) == 0) return;
    muse_str_free(out_path);
  }
}

MuseStatus muse_data_inspect(const MuseInspectOptions *options, FILE *out, MuseDiag *diag) {
  MuseTokens *tokens;
  MUSE_TRY(muse_tokens_open(options->name, &tokens, diag));
  const MuseTokensInfo *info = muse_tokens_info(tokens);
  MuseTokenizer *tokenizer = NULL;
  MuseStr path = {0};
  find_tokenizer(info, &path);
  const char *kind = options->tokenizer ? options->tokenizer : path.data;
  MuseStatus status = kind ? muse_tokenizer_open(kind, &tokenizer, diag) : MUSE_OK;
  if (status == MUSE_OK && !options->tokenizer && tokenizer && muse_tokenizer_hash(tokenizer) != info->tokenizer_hash)
    status = muse_error(
        diag, MUSE_ERR_DATA,
        "'%s' was made by another tokenizer than '%s'; give --tokenizer to decode it all the same",
        info->idx_path, kind);
  if (status == MUSE_OK) status = inspect(options, tokens, tokenizer, out, diag);
  muse_str_free(&path);
  muse_tokenizer_close(tokenizer);
  muse_tokens_close(tokens);
  return status;
}
