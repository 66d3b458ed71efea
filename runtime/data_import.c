// muse-data import: files -> documents -> (normalise, drop duplicates, choose a side by the hash) -> shards.
// Everything goes to a folder beside the output, which is put in its place at the end. A call that was killed leaves
// that folder, .NAME.PID.tmp beside NAME, and perhaps what was there before, .NAME.PID.old; the next one cleans up.
#include "corpus/documents.h"
#include "corpus/encoding.h"
#include "corpus/seen.h"
#include "corpus/shard.h"
#include "ir/base/hash.h"
#include "runtime/data_commands.h"
#include "runtime/text_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SHARD_BYTES ((uint64_t)256 << 20)

typedef enum Side { TRAIN, VALIDATION, N_SIDES } Side;
static const char *const side_names[N_SIDES] = {"train", "validation"};

typedef struct Import {
  const MuseImportOptions *options;
  MuseDocumentForm form;
  MuseRecordForm record;
  MuseStr output;                 // without slashes at the end
  MuseStr folder;                 // what becomes the output
  int lock;                       // the folder, held while this call works; -1: not yet
  MuseShard shards[N_SIDES];
  bool open[N_SIDES];
  int n_shards[N_SIDES];
  MuseSeen seen;
  uint64_t n_files, n_other_names, n_duplicates, n_documents[N_SIDES], n_bytes[N_SIDES];
  uint64_t n_verdicts[MUSE_N_DOCUMENT_VERDICTS];
  bool full;                      // max_documents reached
  double last_shown;
} Import;

static void show_progress(Import *im) {
  struct timespec t;
  if (im->options->quiet || !isatty(STDERR_FILENO)) return;
  clock_gettime(CLOCK_MONOTONIC, &t);
  double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
  if (now - im->last_shown < 0.2) return;
  im->last_shown = now;
  MuseStr s = {0};
  muse_str_append_bytes(&s, im->n_bytes[TRAIN] + im->n_bytes[VALIDATION]);
  fprintf(stderr, "\r\033[K%llu documents, %s",
          (unsigned long long)(im->n_documents[TRAIN] + im->n_documents[VALIDATION]), s.data);
  fflush(stderr);
  muse_str_free(&s);
}

static MuseStatus finish_shard(Import *im, Side side, MuseDiag *diag) {
  if (!im->open[side]) return MUSE_OK;
  im->open[side] = false;
  return muse_shard_finish(&im->shards[side], diag);
}

static MuseStatus open_shard(Import *im, Side side, MuseDiag *diag) {
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/%s", im->folder.data, side_names[side]);
  MuseStatus status = muse_make_dirs(path.data, 0777, diag);
  muse_str_appendf(&path, "/%05d.jsonl", im->n_shards[side]);
  if (status == MUSE_OK) status = muse_shard_open(path.data, &im->shards[side], diag);
  muse_str_free(&path);
  if (status == MUSE_OK) im->open[side] = true, im->n_shards[side]++;
  return status;
}

// The hash decides, so that a document stays on its side whatever else is imported, and in which order.
static Side side_of(const Import *im, MuseHash hash) {
  return (double)(hash.hi >> 11) * 0x1p-53 < im->options->validation ? VALIDATION : TRAIN;
}

static MuseStatus add_document(Import *im, MuseStr *text, MuseDiag *diag) {
  if (im->options->nfkc) muse_text_nfkc(text);
  if (text->len == 0) {
    im->n_verdicts[MUSE_DOCUMENT_EMPTY]++;
    return MUSE_OK;
  }
  MuseHash hash = muse_hash128(text->data, text->len);
  if (!im->options->keep_duplicates && !muse_seen_add(&im->seen, hash)) {
    im->n_duplicates++;
    return MUSE_OK;
  }
  Side side = side_of(im, hash);
  if (im->open[side] && im->shards[side].n_bytes >= SHARD_BYTES) MUSE_TRY(finish_shard(im, side, diag));
  if (!im->open[side]) MUSE_TRY(open_shard(im, side, diag));
  MUSE_TRY(muse_shard_add(&im->shards[side], text->data, text->len, diag));
  im->n_documents[side]++;
  im->n_bytes[side] += text->len;
  int64_t limit = im->options->max_documents;
  im->full = limit > 0 && im->n_documents[TRAIN] + im->n_documents[VALIDATION] >= (uint64_t)limit;
  return MUSE_OK;
}

static MuseStatus import_documents(Import *im, MuseDocuments *documents, MuseDiag *diag) {
  MuseStr text = {0};
  MuseDocumentVerdict verdict = MUSE_DOCUMENT_OK;
  MuseStatus status = MUSE_OK;
  while (status == MUSE_OK && !im->full) {
    if (*im->options->stop) status = MUSE_ERR_STOPPED;
    else status = muse_documents_next(documents, &text, &verdict, diag);
    if (status != MUSE_OK || verdict == MUSE_DOCUMENT_END) break;
    if (verdict == MUSE_DOCUMENT_OK) status = add_document(im, &text, diag);
    else im->n_verdicts[verdict]++;
    show_progress(im);
  }
  muse_str_free(&text);
  return status;
}

static bool is_input(const Import *im, const char *path) {
  for (int i = 0; i < im->options->inputs.len; i++)
    if (im->options->inputs.data[i] == path) return true; // named on the command line, not found in a folder
  return false;
}

static MuseStatus import_file(void *user, const char *path, MuseDiag *diag) {
  Import *im = user;
  MuseFileKind kind = muse_file_kind(path);
  if (im->full) return MUSE_OK;
  if (kind == MUSE_FILE_OTHER && !im->options->any_name && !is_input(im, path)) {
    im->n_other_names++;
    return MUSE_OK;
  }
  im->n_files++;
  MuseDocuments *documents;
  MUSE_TRY(muse_documents_open(path, kind, &im->form, &documents, diag));
  MuseStatus status = import_documents(im, documents, diag);
  muse_documents_close(documents);
  return status;
}

// ---- results

static void print_summary(const Import *im, FILE *out) {
  const MuseImportOptions *o = im->options;
  MuseStr s = {0};
  unsigned long long train = im->n_documents[TRAIN], held = im->n_documents[VALIDATION];
  if (o->json) {
    muse_str_append(&s, "{\"output\":");
    muse_json_text(&s, o->output, strlen(o->output));
    muse_str_appendf(&s,
                     ",\"train\":%llu,\"validation\":%llu,\"bytes\":%llu,\"files\":%llu,\"duplicates\":%llu,"
                     "\"other_names\":%llu,\"left_out\":{",
                     train, held, (unsigned long long)(im->n_bytes[TRAIN] + im->n_bytes[VALIDATION]),
                     (unsigned long long)im->n_files, (unsigned long long)im->n_duplicates,
                     (unsigned long long)im->n_other_names);
    for (int v = MUSE_DOCUMENT_EMPTY; v < MUSE_N_DOCUMENT_VERDICTS; v++)
      muse_str_appendf(&s, "%s\"%s\":%llu", v > MUSE_DOCUMENT_EMPTY ? "," : "",
                       muse_document_verdict_name((MuseDocumentVerdict)v), (unsigned long long)im->n_verdicts[v]);
    muse_str_append(&s, "}}\n");
  } else {
    muse_str_appendf(&s, "%s: %llu documents, ", o->output, train + held);
    muse_str_append_bytes(&s, im->n_bytes[TRAIN] + im->n_bytes[VALIDATION]);
    muse_str_appendf(&s, " of text (%llu in train, %llu in validation)\n", train, held);
    if (im->n_duplicates)
      muse_str_appendf(&s, "  left out: %llu documents, equal to an earlier one\n",
                       (unsigned long long)im->n_duplicates);
    for (int v = MUSE_DOCUMENT_EMPTY; v < MUSE_N_DOCUMENT_VERDICTS; v++)
      if (im->n_verdicts[v])
        muse_str_appendf(&s, "  left out: %llu documents, %s%s\n", (unsigned long long)im->n_verdicts[v],
                         muse_document_verdict_name((MuseDocumentVerdict)v),
                         v == MUSE_DOCUMENT_NOT_TEXT && !o->encoding ? " (--encoding names another encoding)" : "");
    if (im->n_other_names)
      muse_str_appendf(&s, "  left out: %llu files with other endings (--any-name takes them)\n",
                       (unsigned long long)im->n_other_names);
    if (im->seen.full) muse_str_append(&s, "  duplicates among the last documents were kept: there are too many\n");
  }
  fputs(s.data, out);
  muse_str_free(&s);
}

static MuseStatus no_documents(const Import *im, MuseDiag *diag) {
  MuseStr why = {0};
  for (int v = MUSE_DOCUMENT_EMPTY; v < MUSE_N_DOCUMENT_VERDICTS; v++)
    if (im->n_verdicts[v])
      muse_str_appendf(&why, "%s%llu %s", why.len ? ", " : ": ", (unsigned long long)im->n_verdicts[v],
                       muse_document_verdict_name((MuseDocumentVerdict)v));
  if (im->n_other_names)
    muse_str_appendf(&why, "%s%llu files with other endings", why.len ? ", " : ": ",
                     (unsigned long long)im->n_other_names);
  MuseStatus status =
      muse_error(diag, MUSE_ERR_INPUT, "no documents were found%s; name other folders", muse_str_text(&why));
  muse_str_free(&why);
  return status;
}

static MuseStatus write_label(const Import *im, MuseDiag *diag) {
  if (!im->options->label) return MUSE_OK;
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/.label", im->folder.data); // a name that tokenize leaves out
  MuseStatus status = muse_write_file_atomic(path.data, im->options->label, strlen(im->options->label), diag);
  muse_str_free(&path);
  return status;
}

static bool is_there(const char *path) {
  DIR *dir = opendir(path);
  if (!dir) return access(path, F_OK) == 0;
  int n = 0;
  for (struct dirent *e; (e = readdir(dir));) n++;
  closedir(dir);
  return n > 2; // an empty folder is no result
}

static const char *name_in(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

// FOLDER/.NAME.PID.ending of an output FOLDER/NAME: a name that tokenize leaves out, and that nobody gives by hand.
static void beside(const char *output, const char *ending, MuseStr *out) {
  const char *name = name_in(output);
  muse_str_append_n(out, output, (size_t)(name - output));
  muse_str_appendf(out, ".%s.%ld.%s", name, (long)getpid(), ending);
}

// Puts the folder in the place of the output; an old one moves aside first, and back when that fails.
static MuseStatus put_in_place(const Import *im, MuseDiag *diag) {
  const char *output = im->output.data;
  MuseStr old = {0};
  beside(output, "old", &old);
  bool moved = rename(output, old.data) == 0;
  MuseStatus status = MUSE_OK;
  if (rename(im->folder.data, output) != 0) {
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", output, strerror(errno));
    if (moved && rename(old.data, output) != 0)
      muse_error(diag, MUSE_ERR_FAILED, "what was there lies in '%s' now", old.data);
  } else if (moved) {
    status = muse_remove_tree(old.data, diag);
  }
  muse_str_free(&old);
  return status;
}

// The ending of a name .NAME.PID.tmp or .NAME.PID.old beside NAME, and the PID; NULL: another name.
static const char *leftover_ending(const char *name, const char *entry, long *out_pid) {
  size_t n = strlen(name);
  if (*entry++ != '.' || strncmp(entry, name, n) != 0 || entry[n] != '.') return NULL;
  if (entry[n + 1] < '1' || entry[n + 1] > '9') return NULL;
  char *end;
  *out_pid = strtol(entry + n + 1, &end, 10);
  return muse_str_eq(end, ".tmp") || muse_str_eq(end, ".old") ? end : NULL;
}

// Whether the call that made it is gone: its process is (this one's number may have been another's), and nobody holds
// the folder (a process elsewhere, on a shared disk, has a number that says nothing here).
static bool is_abandoned(const char *path, long pid) {
  if (pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) return false;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return false;
  bool free_now = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
  close(fd);
  return free_now;
}

// What killed calls for the same output have left. One that was killed between its two renames has moved what was there
// aside, and that comes back.
static MuseStatus clean_up(const char *output, MuseDiag *diag) {
  const char *name = name_in(output);
  MuseStr parent = {0}, path = {0};
  muse_str_append_n(&parent, name > output ? output : "./", name > output ? (size_t)(name - output) : 2);
  DIR *dir = opendir(parent.data);
  MuseStatus status = MUSE_OK;
  long pid;
  for (struct dirent *e; dir && status == MUSE_OK && (e = readdir(dir));) {
    const char *ending = leftover_ending(name, e->d_name, &pid);
    if (!ending) continue;
    muse_str_clear(&path);
    muse_str_appendf(&path, "%s%s", parent.data, e->d_name);
    if (!is_abandoned(path.data, pid)) continue;
    if (muse_str_eq(ending, ".old") && access(output, F_OK) != 0 && rename(path.data, output) == 0)
      muse_note_at(diag, (MuseLoc){0}, "'%s' is what it was before an import that was killed", output);
    else status = muse_remove_tree(path.data, diag);
  }
  if (dir) closedir(dir);
  muse_str_free(&parent);
  muse_str_free(&path);
  return status;
}

static MuseStatus make_folder(Import *im, MuseDiag *diag) {
  beside(im->output.data, "tmp", &im->folder);
  MUSE_TRY(muse_make_dirs(im->folder.data, 0777, diag));
  im->lock = open(im->folder.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (im->lock >= 0) (void)flock(im->lock, LOCK_EX | LOCK_NB); // where a disk locks no folders, the PID alone counts
  return MUSE_OK;
}

static MuseStatus run_import(Import *im, MuseDiag *diag) {
  MUSE_TRY(make_folder(im, diag));
  MuseStatus status = muse_text_walk(&im->options->inputs, &(MuseTextList){0}, import_file, im, diag);
  if (im->last_shown > 0) fputs("\r\033[K", stderr);
  if (status == MUSE_ERR_STOPPED) muse_error(diag, status, "stopped; '%s' is as it was before", im->options->output);
  MUSE_TRY(status);
  for (Side side = TRAIN; side < N_SIDES; side++) MUSE_TRY(finish_shard(im, side, diag));
  if (im->n_documents[TRAIN] + im->n_documents[VALIDATION] == 0) return no_documents(im, diag);
  if (im->n_documents[TRAIN] == 0)
    return muse_error(diag, MUSE_ERR_INPUT, "all %llu documents would be held out; take --validation 0",
                      (unsigned long long)im->n_documents[VALIDATION]);
  MUSE_TRY(write_label(im, diag));
  return put_in_place(im, diag);
}

static MuseStatus import_to(Import *im, MuseDiag *diag) {
  const MuseImportOptions *o = im->options;
  const char *output = im->output.data;
  struct stat st;
  MUSE_TRY(clean_up(output, diag));
  if (is_there(output) && (!o->replace || (lstat(output, &st) == 0 && !S_ISDIR(st.st_mode))))
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is there already; take another -o%s", o->output,
                      o->replace ? ", for it is no folder" : ", or --force to replace it");
  MUSE_TRY(muse_encoding_check(o->encoding, diag));
  MuseArena *arena = muse_arena_create();
  MuseStatus status = MUSE_OK;
  if (o->form) status = muse_record_form_template(o->form, (MuseLoc){0}, arena, &im->record, diag);
  else muse_record_form_column(o->column, arena, &im->record);
  if (status == MUSE_OK) {
    im->form = (MuseDocumentForm){&im->record, o->encoding, o->max_document, o->stop};
    status = run_import(im, diag);
    for (Side side = TRAIN; side < N_SIDES; side++)
      if (im->open[side]) muse_shard_abort(&im->shards[side]);
    if (status != MUSE_OK) {
      if (im->lock >= 0) close(im->lock); // what failed may have been for want of file descriptors
      im->lock = -1;
      muse_remove_tree(im->folder.data, NULL);
    }
  }
  muse_arena_destroy(arena);
  return status;
}

MuseStatus muse_data_import(const MuseImportOptions *o, FILE *out, MuseDiag *diag) {
  Import im = {.options = o, .lock = -1};
  size_t n = strlen(o->output);
  while (n > 1 && o->output[n - 1] == '/') n--;
  muse_str_append_n(&im.output, o->output, n);
  MuseStatus status = import_to(&im, diag);
  if (status == MUSE_OK) print_summary(&im, out);
  if (im.lock >= 0) close(im.lock);
  muse_seen_free(&im.seen);
  muse_str_free(&im.output);
  muse_str_free(&im.folder);
  return status;
}
