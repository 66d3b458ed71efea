// muse-data tokenize: a ring of files. The main thread walks the folders, hands files to the workers and takes the
// results back in the same order, so the output is the same for any number of threads and memory stays bounded:
//   walk -> [slot][slot][slot]... -> workers read and tokenize -> the oldest slot is written, then used again
#include "corpus/documents.h"
#include "ir/base/hash.h"
#include "ir/base/io.h"
#include "runtime/data_commands.h"
#include "runtime/metrics.h"
#include "runtime/text_files.h"
#include "runtime/tokenizer.h"
#include "runtime/tokens.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS_PER_THREAD = 4, MAX_THREADS = 256 };
#define SLOT_BYTES (1u << 20)          // longer texts are streamed by the main thread, without a slot
#define MAX_RECORD (16u << 20)         // text of a line of JSON
#define MAX_KNOWN_DOCUMENTS (1u << 22) // of the duplicate check: 64 MiB

typedef enum SlotState { SLOT_FREE, SLOT_QUEUED, SLOT_DONE } SlotState;

typedef struct Slot {
  SlotState state;
  char *path;        // of a text file, or
  MuseStr text;      // a document of a JSONL file
  MuseTextVerdict verdict;
  MuseTokenIds ids;
  MuseHash hash;     // of the text
  uint64_t bytes;
  MuseStatus status; // of encoding, with its sentence in diag
  MuseDiag *diag;
} Slot;

typedef struct Job {
  const MuseTokenizeOptions *options;
  MuseTokenizer *tokenizer;
  MuseTokensWriter *writer;
  // The ring. Slot i % n_slots holds file i; written <= taken <= queued.
  Slot *slots;
  uint64_t n_slots, queued, taken, written;
  bool closing;
  pthread_mutex_t mutex;
  pthread_cond_t work, result;
  // Results; main thread only.
  uint64_t n_files, n_documents, n_tokens, n_bytes, n_duplicates, n_verdicts[MUSE_N_TEXT_VERDICTS];
  MuseHash *known;   // open addressing, {0,0} is free
  uint64_t n_known, known_cap;
  bool full;         // max_tokens reached
  double last_shown;
} Job;

// ---- workers

static void tokenize_slot(const Job *job, Slot *slot) {
  MuseStr text = slot->text;
  slot->text = (MuseStr){0};
  slot->verdict = slot->path ? muse_text_read(slot->path, SLOT_BYTES, &text) : MUSE_TEXT_OK;
  slot->bytes = text.len;
  if (slot->verdict == MUSE_TEXT_OK) {
    slot->hash = muse_hash128(text.data, text.len);
    slot->status = muse_tokenizer_encode(job->tokenizer, text.data, text.len, &slot->ids, slot->diag);
  }
  muse_str_free(&text);
}

static void *work(void *argument) {
  Job *job = argument;
  pthread_mutex_lock(&job->mutex);
  for (;;) {
    while (job->taken == job->queued && !job->closing) pthread_cond_wait(&job->work, &job->mutex);
    if (job->taken == job->queued) break;
    Slot *slot = &job->slots[job->taken++ % job->n_slots];
    pthread_mutex_unlock(&job->mutex);
    tokenize_slot(job, slot);
    pthread_mutex_lock(&job->mutex);
    slot->state = SLOT_DONE;
    pthread_cond_signal(&job->result);
  }
  pthread_mutex_unlock(&job->mutex);
  return NULL;
}

// ---- main thread

static bool same_hash(MuseHash a, MuseHash b) { return a.lo == b.lo && a.hi == b.hi; }

static void insert(MuseHash *table, uint64_t cap, MuseHash hash) {
  uint64_t i = hash.lo & (cap - 1);
  while (table[i].lo | table[i].hi) i = (i + 1) & (cap - 1);
  table[i] = hash;
}

// True when the document has been seen; else it is remembered, as long as there is room.
static bool is_duplicate(Job *job, MuseHash hash) {
  if (job->options->keep_duplicates) return false;
  if (!(hash.lo | hash.hi)) hash.hi = 1;
  for (uint64_t i = hash.lo & (job->known_cap - 1); job->known[i].lo | job->known[i].hi;
       i = (i + 1) & (job->known_cap - 1)) {
    if (same_hash(job->known[i], hash)) return true;
  }
  if (job->n_known >= MAX_KNOWN_DOCUMENTS / 2) return false;
  if (++job->n_known > job->known_cap / 2) {
    MuseHash *larger = calloc(job->known_cap * 2, sizeof *larger);
    if (!larger) muse_out_of_memory(job->known_cap * 2 * sizeof *larger);
    for (uint64_t i = 0; i < job->known_cap; i++) {
      if (job->known[i].lo | job->known[i].hi) insert(larger, job->known_cap * 2, job->known[i]);
    }
    free(job->known);
    job->known = larger;
    job->known_cap *= 2;
  }
  insert(job->known, job->known_cap, hash);
  return false;
}

static MuseStatus end_document(Job *job, uint64_t n_tokens, uint64_t n_bytes, MuseDiag *diag) {
  MUSE_TRY(muse_tokens_writer_end_document(job->writer, diag));
  job->n_documents++;
  job->n_tokens += n_tokens;
  job->n_bytes += n_bytes;
  job->full = job->options->max_tokens > 0 && job->n_tokens >= (uint64_t)job->options->max_tokens;
  return MUSE_OK;
}

typedef struct Large {
  Job *job;
  MuseHasher *hasher;
  MuseEncoder *encoder;
  MuseTokenIds ids;
  uint64_t n_bytes, n_tokens;
  MuseStatus status;
  MuseDiag *diag;
} Large;

static bool hash_piece(void *user, const char *text, size_t n) {
  Large *large = user;
  muse_hasher_update(large->hasher, text, n);
  large->n_bytes += n;
  return !*large->job->options->stop;
}

static bool write_piece(Large *large, const char *text, size_t n, bool last) {
  muse_vec_clear(&large->ids);
  large->status = muse_encoder_feed(large->encoder, text, n, last, &large->ids, large->diag);
  if (large->status == MUSE_OK)
    large->status = muse_tokens_writer_append(large->job->writer, large->ids.data, (int64_t)large->ids.len,
                                              large->diag);
  large->n_tokens += large->ids.len;
  return large->status == MUSE_OK && !*large->job->options->stop;
}

static bool append_piece(void *user, const char *text, size_t n) { return write_piece(user, text, n, false); }

// The sentence of a failed encoding does not know the file.
static MuseStatus tell_file(const char *path, MuseStatus status, MuseDiag *diag) {
  return muse_error(diag, status, "'%s' cannot be tokenized", path);
}

// A text beyond a slot: once through to check it, once to write it, in pieces.
static MuseStatus write_large(Job *job, const char *path, MuseTextVerdict *out_verdict, MuseDiag *diag) {
  Large large = {.job = job, .hasher = muse_hasher_create(), .diag = diag};
  uint64_t limit = job->options->max_document, most = muse_tokenizer_max_text(job->tokenizer);
  if (most < limit) limit = most;
  *out_verdict = muse_text_stream(path, limit, hash_piece, &large);
  MuseHash hash = muse_hasher_finish(large.hasher);
  if (*out_verdict != MUSE_TEXT_OK) return MUSE_OK;
  if (is_duplicate(job, hash)) {
    job->n_duplicates++;
    return MUSE_OK;
  }
  large.encoder = muse_encoder_create(job->tokenizer);
  MuseTextVerdict second = muse_text_stream(path, limit, append_piece, &large);
  if (second == MUSE_TEXT_OK && !write_piece(&large, "", 0, true)) second = MUSE_TEXT_STOPPED;
  muse_encoder_destroy(large.encoder);
  muse_vec_free(&large.ids);
  if (large.status != MUSE_OK) return tell_file(path, large.status, diag);
  if (second == MUSE_TEXT_STOPPED) return MUSE_OK; // by a signal: the caller gives all of it up
  if (second != MUSE_TEXT_OK)
    return muse_error(diag, MUSE_ERR_FAILED, "'%s' changed while it was read; run again", path);
  return end_document(job, large.n_tokens, large.n_bytes, diag);
}

static MuseStatus write_slot(Job *job, Slot *slot, MuseDiag *diag) {
  MuseTextVerdict verdict = slot->verdict;
  if (job->full) return MUSE_OK;
  job->n_files++;
  if (slot->status != MUSE_OK) {
    muse_error(diag, slot->status, "%s", muse_diag_message(slot->diag, 0));
    return tell_file(slot->path ? slot->path : "a line of a JSONL file", slot->status, diag);
  }
  if (verdict == MUSE_TEXT_TOO_LARGE) {
    MUSE_TRY(write_large(job, slot->path, &verdict, diag));
  } else if (verdict == MUSE_TEXT_OK && is_duplicate(job, slot->hash)) {
    job->n_duplicates++;
  } else if (verdict == MUSE_TEXT_OK) {
    MUSE_TRY(muse_tokens_writer_append(job->writer, slot->ids.data, (int64_t)slot->ids.len, diag));
    MUSE_TRY(end_document(job, slot->ids.len, slot->bytes, diag));
  }
  job->n_verdicts[verdict]++;
  return MUSE_OK;
}

static void show_progress(Job *job) {
  struct timespec t;
  if (job->options->quiet || !isatty(STDERR_FILENO)) return;
  clock_gettime(CLOCK_MONOTONIC, &t);
  double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
  if (now - job->last_shown < 0.2) return;
  job->last_shown = now;
  MuseStr s = {0};
  muse_str_append_bytes(&s, job->n_bytes);
  fprintf(stderr, "\r\033[K%llu documents, %s", (unsigned long long)job->n_documents, s.data);
  fflush(stderr);
  muse_str_free(&s);
}

// Waits for the oldest slot, writes it and frees it.
static MuseStatus write_oldest(Job *job, MuseDiag *diag) {
  Slot *slot = &job->slots[job->written % job->n_slots];
  pthread_mutex_lock(&job->mutex);
  while (slot->state != SLOT_DONE) pthread_cond_wait(&job->result, &job->mutex);
  pthread_mutex_unlock(&job->mutex);
  MuseStatus status = *job->options->stop ? MUSE_ERR_STOPPED : write_slot(job, slot, diag);
  if (*job->options->stop) status = MUSE_ERR_STOPPED;
  free(slot->path);
  slot->path = NULL;
  muse_vec_clear(&slot->ids);
  slot->state = SLOT_FREE;
  job->written++;
  show_progress(job);
  return status;
}

// Queues a text file, or a document whose text is moved from *io_text.
static MuseStatus queue_slot(Job *job, const char *path, MuseStr *io_text, MuseDiag *diag) {
  if (*job->options->stop) return MUSE_ERR_STOPPED;
  if (job->queued - job->written == job->n_slots) MUSE_TRY(write_oldest(job, diag));
  if (job->full) return MUSE_ERR_NO_FIT; // ends the walk; the caller knows why
  pthread_mutex_lock(&job->mutex);
  Slot *slot = &job->slots[job->queued % job->n_slots];
  slot->path = path ? strdup(path) : NULL;
  if (io_text) slot->text = *io_text, *io_text = (MuseStr){0};
  slot->state = SLOT_QUEUED;
  job->queued++;
  pthread_cond_signal(&job->work);
  pthread_mutex_unlock(&job->mutex);
  return MUSE_OK;
}

// Every line of a JSONL file is a document: its "text".
static MuseStatus queue_records(Job *job, const char *path, MuseDiag *diag) {
  uint64_t limit = job->options->max_document < MAX_RECORD ? job->options->max_document : MAX_RECORD;
  if (muse_tokenizer_max_text(job->tokenizer) < limit) limit = muse_tokenizer_max_text(job->tokenizer);
  MuseRecordForm record = {
      .columns = {"text"}, .required = {true}, .n_columns = 1, .parts = {{NULL, 0, 0, 0}}, .n_parts = 1};
  MuseDocumentForm form = {&record, NULL, limit};
  MuseDocuments *documents;
  MUSE_TRY(muse_documents_open(path, MUSE_FILE_JSONL, &form, &documents, diag));
  static const MuseTextVerdict verdicts[MUSE_N_DOCUMENT_VERDICTS] = {
      [MUSE_DOCUMENT_EMPTY] = MUSE_TEXT_EMPTY,           [MUSE_DOCUMENT_NOT_TEXT] = MUSE_TEXT_BINARY,
      [MUSE_DOCUMENT_TOO_LARGE] = MUSE_TEXT_TOO_LARGE,
      [MUSE_DOCUMENT_UNREADABLE] = MUSE_TEXT_UNREADABLE, [MUSE_DOCUMENT_NO_JSON] = MUSE_TEXT_NO_JSON,
      [MUSE_DOCUMENT_DAMAGED] = MUSE_TEXT_DAMAGED,
  };
  MuseStr text = {0};
  MuseStatus status = MUSE_OK;
  while (status == MUSE_OK) {
    MuseDocumentVerdict verdict;
    status = muse_documents_next(documents, &text, &verdict, diag);
    if (status != MUSE_OK || verdict == MUSE_DOCUMENT_END) break;
    if (verdict == MUSE_DOCUMENT_OK) status = queue_slot(job, NULL, &text, diag);
    else job->n_files++, job->n_verdicts[verdicts[verdict]]++;
  }
  muse_str_free(&text);
  muse_documents_close(documents);
  return status;
}

static bool is_jsonl(const char *path) {
  static const char *const endings[] = {".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"};
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
    if (muse_str_ends_with(path, endings[i])) return true;
  return false;
}

static MuseStatus queue_file(void *user, const char *path, MuseDiag *diag) {
  return is_jsonl(path) ? queue_records(user, path, diag) : queue_slot(user, path, NULL, diag);
}

static MuseStatus run_threads(Job *job, MuseDiag *diag) {
  pthread_t threads[MAX_THREADS];
  int64_t n_threads = job->options->threads > 0 ? job->options->threads : sysconf(_SC_NPROCESSORS_ONLN);
  n_threads = n_threads < 1 ? 1 : n_threads > MAX_THREADS ? MAX_THREADS : n_threads;
  job->n_slots = (uint64_t)n_threads * SLOTS_PER_THREAD;
  job->slots = calloc(job->n_slots, sizeof *job->slots);
  job->known_cap = 1024;
  job->known = calloc(job->known_cap, sizeof *job->known);
  if (!job->slots || !job->known) muse_out_of_memory(job->n_slots * sizeof *job->slots);
  for (uint64_t i = 0; i < job->n_slots; i++) job->slots[i].diag = muse_diag_create();
  int64_t started = 0;
  while (started < n_threads && pthread_create(&threads[started], NULL, work, job) == 0) started++;
  MuseStatus status = started ? MUSE_OK : muse_error(diag, MUSE_ERR_FAILED, "cannot start a thread");
  if (status == MUSE_OK) status = muse_text_walk(&job->options->inputs, &job->options->endings, queue_file, job, diag);
  if (job->full) status = MUSE_OK;
  while (status == MUSE_OK && job->written < job->queued) status = write_oldest(job, diag);
  pthread_mutex_lock(&job->mutex);
  if (status != MUSE_OK) job->queued = job->taken; // what nobody has begun is dropped; paths are freed below
  job->closing = true;
  pthread_cond_broadcast(&job->work);
  pthread_mutex_unlock(&job->mutex);
  for (int64_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
  for (uint64_t i = 0; i < job->n_slots; i++) {
    free(job->slots[i].path);
    muse_diag_destroy(job->slots[i].diag);
    muse_str_free(&job->slots[i].text);
    muse_vec_free(&job->slots[i].ids);
  }
  free(job->slots);
  free(job->known);
  return status;
}

static void print_summary(const Job *job, FILE *out) {
  const MuseTokenizeOptions *o = job->options;
  MuseStr s = {0};
  if (o->json) {
    muse_str_append(&s, "{\"output\":");
    muse_json_append_text(&s, o->output, strlen(o->output));
    muse_str_appendf(
        &s, ",\"documents\":%llu,\"tokens\":%llu,\"bytes\":%llu,\"files\":%llu,\"duplicates\":%llu,\"left_out\":{",
        (unsigned long long)job->n_documents, (unsigned long long)job->n_tokens, (unsigned long long)job->n_bytes,
        (unsigned long long)job->n_files, (unsigned long long)job->n_duplicates);
    for (int v = MUSE_TEXT_EMPTY; v < MUSE_TEXT_STOPPED; v++)
      muse_str_appendf(&s, "%s\"%s\":%llu", v > MUSE_TEXT_EMPTY ? "," : "", muse_text_verdict_name((MuseTextVerdict)v),
                       (unsigned long long)job->n_verdicts[v]);
    muse_str_append(&s, "}}\n");
  } else {
    muse_str_appendf(&s, "%s: %llu documents, %llu tokens from ", o->output, (unsigned long long)job->n_documents,
                     (unsigned long long)job->n_tokens);
    muse_str_append_bytes(&s, job->n_bytes);
    muse_str_append(&s, " of text\n");
    for (int v = MUSE_TEXT_EMPTY; v < MUSE_TEXT_STOPPED; v++) {
      if (job->n_verdicts[v])
        muse_str_appendf(&s, "  left out: %llu files, %s\n", (unsigned long long)job->n_verdicts[v],
                         muse_text_verdict_name((MuseTextVerdict)v));
    }
    if (job->n_duplicates)
      muse_str_appendf(&s, "  left out: %llu files, equal to an earlier one\n", (unsigned long long)job->n_duplicates);
  }
  fputs(s.data, out);
  muse_str_free(&s);
}

static MuseStatus tell_no_text(const Job *job, MuseDiag *diag) {
  if (job->n_files == 0)
    return muse_error(diag, MUSE_ERR_INPUT, "no text was found, for there are no files%s; name other folders",
                      job->options->endings.len ? " with such an --ending" : "");
  MuseStr why = {0};
  for (int v = MUSE_TEXT_EMPTY; v < MUSE_TEXT_STOPPED; v++)
    if (job->n_verdicts[v])
      muse_str_appendf(&why, "%s%llu %s", why.len ? ", " : "", (unsigned long long)job->n_verdicts[v],
                       muse_text_verdict_name((MuseTextVerdict)v));
  MuseStatus status = muse_error(diag, MUSE_ERR_INPUT, "no text was found in %llu file%s (%s); name other folders",
                                 (unsigned long long)job->n_files, job->n_files == 1 ? "" : "s", muse_str_text(&why));
  muse_str_free(&why);
  return status;
}

static MuseStatus make_output_folder(const char *output, MuseDiag *diag) {
  const char *slash = strrchr(output, '/');
  if (!slash || slash == output) return MUSE_OK;
  MuseStr folder = {0};
  muse_str_append_n(&folder, output, (size_t)(slash - output));
  MuseStatus status = muse_make_dirs(folder.data, 0777, diag);
  muse_str_free(&folder);
  return status;
}

// NAME.tokenizer.json or .model: the set can be shown as text, and other sets made alike, wherever it goes.
static MuseStatus keep_tokenizer(const Job *job, MuseDiag *diag) {
  const char *path = muse_tokenizer_path(job->tokenizer);
  MuseStr copy = {0}, bytes = {0};
  MuseTokenizer *again = NULL;
  bool json = muse_str_eq(muse_tokenizer_kind(job->tokenizer), "byte-level BPE");
  muse_tokens_tokenizer_path(job->options->output, json, &copy);
  MuseStatus status = MUSE_OK;
  if (path) {
    status = muse_read_file(path, (uint64_t)1 << 30, &bytes, diag);
    // It may have been replaced since, or be the copy itself.
    if (status == MUSE_OK) status = muse_tokenizer_read(path, muse_str_text(&bytes), bytes.len, &again, diag);
    if (status == MUSE_OK && muse_tokenizer_hash(again) != muse_tokenizer_hash(job->tokenizer))
      status = muse_error(diag, MUSE_ERR_FAILED, "'%s' changed while it was in use; run again", path);
    if (status == MUSE_OK) status = muse_write_file_atomic(copy.data, muse_str_text(&bytes), bytes.len, diag);
  }
  muse_tokenizer_close(again);
  muse_str_free(&copy);
  muse_str_free(&bytes);
  return status;
}

static MuseStatus tokenize(Job *job, FILE *out, MuseDiag *diag) {
  const MuseTokenizeOptions *o = job->options;
  MUSE_TRY(make_output_folder(o->output, diag));
  MUSE_TRY(muse_tokens_writer_open(o->output, muse_tokenizer_name(job->tokenizer), muse_tokenizer_hash(job->tokenizer),
                                   muse_tokenizer_vocab_size(job->tokenizer), &job->writer, diag));
  MuseStatus status = run_threads(job, diag);
  if (job->last_shown > 0) fputs("\r\033[K", stderr);
  if (status == MUSE_ERR_STOPPED) muse_error(diag, status, "stopped; '%s' is as it was before", o->output);
  if (status == MUSE_OK && job->n_documents == 0) status = tell_no_text(job, diag);
  if (status != MUSE_OK) {
    muse_tokens_writer_abort(job->writer);
    return status;
  }
  MUSE_TRY(muse_tokens_writer_finish(job->writer, NULL, diag));
  MUSE_TRY(keep_tokenizer(job, diag));
  print_summary(job, out);
  return MUSE_OK;
}

MuseStatus muse_data_tokenize(const MuseTokenizeOptions *options, FILE *out, MuseDiag *diag) {
  Job job = {.options = options, .mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER,
             .result = PTHREAD_COND_INITIALIZER};
  MUSE_TRY(muse_tokenizer_open(options->tokenizer, &job.tokenizer, diag));
  MuseStatus status = tokenize(&job, out, diag);
  muse_tokenizer_close(job.tokenizer);
  return status;
}
