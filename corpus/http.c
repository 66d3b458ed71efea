// One request: attempts until there is an answer; an attempt: hops along redirects.
#include "corpus/http.h"

#include "corpus/http_headers.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HOPS = 10, MAX_TRIES = 7, MAX_UNREACHABLE_TRIES = 3, CONNECT_SECONDS = 20, STALL_SECONDS = 60 };
#define MAX_WAIT_SECONDS 600.0 // beyond that the user is told to come back

struct MuseHttp {
  CURL *curl;
  MuseHttpOptions options;
  bool unreachable;
  double not_before;           // monotonic seconds: the quota is used up until then
};

// Where the bytes of an answer go: into memory, or into a file from an offset on.
typedef struct Sink {
  MuseHttp *http;
  MuseHttpHeaders headers;
  MuseStr *body;
  uint64_t max_bytes;
  int fd;                      // -1: body
  const char *part;            // its name
  uint64_t offset, size;       // bytes in the file, and how many there will be
  bool started, too_long, moved;
  int write_error;             // errno
} Sink;

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static MuseStatus stopped(MuseDiag *diag) { return muse_error(diag, MUSE_ERR_STOPPED, "stopped"); }
static bool is_stopped(const MuseHttp *h) { return h->options.stop && *h->options.stop; }

static MuseStatus wait_seconds(MuseHttp *h, double seconds, const char *why, MuseDiag *diag) {
  if (seconds >= 5 && !h->options.quiet) fprintf(stderr, "waiting %.0f s: %s\n", seconds, why);
  for (double end = now_seconds() + seconds, left; (left = end - now_seconds()) > 0;) {
    if (is_stopped(h)) return stopped(diag);
    double step = left < 0.2 ? left : 0.2;
    struct timespec t = {(time_t)step, (long)(fmod(step, 1) * 1e9)};
    nanosleep(&t, NULL);
  }
  return is_stopped(h) ? stopped(diag) : MUSE_OK;
}

// ---- libcurl's callbacks

static size_t on_header(char *line, size_t one, size_t n, void *user) {
  muse_http_headers_add(&((Sink *)user)->headers, line, n);
  return n;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now) {
  return is_stopped(user);
}

// The answer begins: is it the rest of what the file holds, or all of it from the start?
static bool start_file(Sink *s) {
  s->started = true;
  if (s->headers.code == 206 && s->headers.range_start == s->offset &&
      (s->headers.range_total == s->size || s->headers.range_total == UINT64_MAX))
    return true;
  s->moved = s->headers.code == 206; // another part than the one asked for, or of another file
  if (ftruncate(s->fd, 0) != 0) s->write_error = errno;
  s->offset = 0;
  return !s->moved && !s->write_error;
}

static size_t write_file(Sink *s, const char *data, size_t n) {
  if (!s->started && !start_file(s)) return 0;
  if (n > s->size - s->offset) {
    s->too_long = true;
    return 0;
  }
  for (size_t done = 0; done < n;) {
    ssize_t put = pwrite(s->fd, data + done, n - done, (off_t)(s->offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      s->write_error = put < 0 ? errno : ENOSPC;
      return 0;
    }
    done += (size_t)put;
    s->offset += (uint64_t)put;
  }
  const MuseHttpOptions *o = &s->http->options;
  if (o->progress) o->progress(o->progress_user, s->offset, s->size);
  return n;
}

static size_t on_body(char *data, size_t one, size_t n, void *user) {
  Sink *s = user;
  bool good = s->headers.code == 200 || s->headers.code == 206;
  if (s->fd >= 0) return good ? write_file(s, data, n) : n;
  if (n > s->max_bytes - s->body->len) {
    s->too_long = good;
    return good ? 0 : n; // of an error page the beginning is enough
  }
  muse_str_append_n(s->body, data, n);
  return n;
}

// ---- a hop

static bool may_have_token(const MuseHttp *h, const char *url) {
  if (!h->options.token || !*h->options.token || !muse_http_is_private(url)) return false;
  for (int i = 0; i < 2; i++)
    if (h->options.origins[i] && muse_http_same_origin(h->options.origins[i], url)) return true;
  return false;
}

static CURLcode hop(MuseHttp *h, const char *url, Sink *s, const char *if_range) {
  struct curl_slist *lines = curl_slist_append(NULL, "Accept-Encoding: identity");
  MuseStr line = {0};
  if (may_have_token(h, url)) {
    muse_str_appendf(&line, "Authorization: Bearer %s", h->options.token);
    lines = curl_slist_append(lines, line.data);
  }
  if (s->fd >= 0 && s->offset > 0) {
    muse_str_clear(&line);
    muse_str_appendf(&line, "Range: bytes=%llu-", (unsigned long long)s->offset);
    lines = curl_slist_append(lines, line.data);
    muse_str_clear(&line);
    muse_str_appendf(&line, "If-Range: %s", if_range);
    if (*if_range) lines = curl_slist_append(lines, line.data);
  }
  if (!lines) muse_out_of_memory(64);
  muse_http_headers_reset(&s->headers);
  s->started = s->too_long = s->moved = false;
  curl_easy_setopt(h->curl, CURLOPT_URL, url);
  curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, lines);
  curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, s);
  curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, s);
  CURLcode code = curl_easy_perform(h->curl);
  curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
  curl_slist_free_all(lines);
  muse_str_free(&line);
  return code;
}

static bool is_redirect(int code) { return code == 301 || code == 302 || code == 303 || code == 307 || code == 308; }

// Hops until there is an answer that is no redirect.
static MuseStatus attempt(MuseHttp *h, const char *first_url, Sink *s, const char *if_range, CURLcode *out_code,
                          MuseDiag *diag) {
  MuseStr url = {0};
  MuseStatus status = MUSE_OK;
  muse_str_append(&url, first_url);
  for (int n = 0;; n++) {
    if (s->body) muse_str_clear(s->body);
    *out_code = hop(h, url.data, s, if_range);
    char *next = NULL;
    curl_easy_getinfo(h->curl, CURLINFO_REDIRECT_URL, &next);
    if (*out_code != CURLE_OK || !is_redirect(s->headers.code) || !next) break;
    if (n == MAX_HOPS) {
      status = muse_error(diag, MUSE_ERR_FAILED, "'%s' redirects more than %d times", first_url, MAX_HOPS);
      break;
    }
    if (muse_str_starts_with(url.data, "https:") && !muse_str_starts_with(next, "https:")) {
      status =
          muse_error(diag, MUSE_ERR_FAILED, "'%s' redirects from https to '%s'; that is not followed", first_url, next);
      break;
    }
    MuseStr copy = {0};
    muse_str_append(&copy, next);
    muse_str_free(&url);
    url = copy;
  }
  muse_str_free(&url);
  return status;
}

// ---- attempts

static bool is_network_down(CURLcode code) {
  return code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_PROXY;
}

static bool may_pass(CURLcode code, int answer) {
  if (code == CURLE_OK) return answer == 408 || answer == 429 || answer == 500 || (answer >= 502 && answer <= 504);
  return is_network_down(code) || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_PARTIAL_FILE ||
         code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING ||
         code == CURLE_SSL_CONNECT_ERROR || code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM;
}

static MuseStatus transfer_failed(const Sink *s, const char *url, CURLcode code, MuseDiag *diag) {
  if (s->write_error)
    return muse_error(diag, MUSE_ERR_FAILED,
                      "cannot write '%s': %s; what has come is kept, and the same command goes on from there", s->part,
                      strerror(s->write_error));
  if (s->too_long)
    return muse_error(diag, MUSE_ERR_FAILED, "'%s' sends more than the %llu bytes it should have", url,
                      (unsigned long long)(s->fd >= 0 ? s->size : s->max_bytes));
  return muse_error(diag, MUSE_ERR_FAILED, "'%s': %s", url, curl_easy_strerror(code));
}

// What to do about an attempt that failed: wait, or give up with a sentence.
static MuseStatus before_next_try(MuseHttp *h, const Sink *s, const char *url, CURLcode code, int n_tries,
                                  MuseDiag *diag) {
  h->unreachable = is_network_down(code);
  MuseStr why = {0};
  if (code != CURLE_OK) muse_str_append(&why, curl_easy_strerror(code));
  else muse_str_appendf(&why, "the server answers %d", s->headers.code);
  MuseStatus status;
  double told = code == CURLE_OK ? muse_http_headers_wait(&s->headers) : -1;
  double wait = told >= 0 ? told : h->options.retry_seconds * ldexp(1, n_tries - 1);
  if (told < 0 && wait > 60) wait = 60;
  if (n_tries >= (h->unreachable ? MAX_UNREACHABLE_TRIES : MAX_TRIES))
    status = muse_error(diag, MUSE_ERR_FAILED, "'%s': %s, %d times; try again later", url, why.data, n_tries);
  else if (wait > MAX_WAIT_SECONDS)
    status = muse_error(diag, MUSE_ERR_FAILED, "'%s': %s and asks to come back in %.0f s; try again then", url,
                        why.data, wait);
  else status = wait_seconds(h, wait, why.data, diag);
  muse_str_free(&why);
  return status;
}

static MuseStatus request(MuseHttp *h, const char *url, Sink *s, MuseStr *if_range, MuseDiag *diag) {
  h->unreachable = false;
  for (int n_tries = 1;; n_tries++) {
    if (h->not_before > now_seconds())
      MUSE_TRY(wait_seconds(h, h->not_before - now_seconds(), "the hub's quota of requests is used up", diag));
    uint64_t before = s->offset;
    CURLcode code;
    MUSE_TRY(attempt(h, url, s, muse_str_text(if_range), &code, diag));
    if (is_stopped(h)) return stopped(diag);
    int answer = s->headers.code;
    double pause = code == CURLE_OK && !may_pass(code, answer) ? muse_http_headers_quota_wait(&s->headers) : 0;
    if (pause > 0) h->not_before = now_seconds() + (pause < MAX_WAIT_SECONDS ? pause : MAX_WAIT_SECONDS);
    if (s->fd >= 0 && (answer == 200 || answer == 206) && s->headers.etag[0] && s->headers.etag[0] != 'W') {
      muse_str_clear(if_range);
      muse_str_append(if_range, s->headers.etag);
    }
    bool again = may_pass(code, answer) || s->moved;
    if (s->fd >= 0 && code == CURLE_OK && (answer == 200 || answer == 206)) {
      if (!s->started && !start_file(s)) again = true; // an empty file
      if (s->offset == s->size) return MUSE_OK;
      again = true; // the connection ended early, and nothing said so
    }
    if (s->fd >= 0 && answer == 416 && s->offset > 0) { // the bytes that are there are of another file
      if (ftruncate(s->fd, 0) != 0) return transfer_failed((s->write_error = errno, s), url, code, diag);
      s->offset = 0;
      again = true;
    }
    if (!again) return code == CURLE_OK ? MUSE_OK : transfer_failed(s, url, code, diag);
    if (s->write_error) return transfer_failed(s, url, code, diag);
    if (s->offset > before) n_tries = 1; // it moves
    MUSE_TRY(before_next_try(h, s, url, code, n_tries, diag));
  }
}

MuseStatus muse_http_get(MuseHttp *h, const char *url, uint64_t max_bytes, MuseHttpAnswer *out, MuseDiag *diag) {
  MuseStr none = {0};
  *out = (MuseHttpAnswer){0};
  Sink s = {.http = h, .body = &out->body, .max_bytes = max_bytes, .fd = -1};
  MuseStatus status = request(h, url, &s, &none, diag);
  out->code = s.headers.code;
  muse_str_append(&out->next, s.headers.next);
  muse_str_append(&out->revision, s.headers.revision);
  if (status != MUSE_OK) muse_http_answer_free(out);
  return status;
}

void muse_http_answer_free(MuseHttpAnswer *a) {
  muse_str_free(&a->body);
  muse_str_free(&a->next);
  muse_str_free(&a->revision);
}

// ---- downloads

static void read_etag(const char *path, MuseStr *out) {
  char text[MUSE_HTTP_ETAG_BYTES];
  FILE *f = fopen(path, "re");
  if (!f) return;
  size_t n = fread(text, 1, sizeof text - 1, f);
  fclose(f);
  text[n] = 0;
  if (n > 2 && text[0] == '"' && text[n - 1] == '"' && strcspn(text, "\r\n") == n) muse_str_append(out, text);
}

// Only helps a later run, so that failing to write it is no failure.
static void write_etag(const char *path, const MuseStr *etag) {
  FILE *f = etag->len ? fopen(path, "we") : NULL;
  if (!f) return;
  bool ok = fwrite(etag->data, 1, etag->len, f) == etag->len;
  if (fclose(f) != 0 || !ok) unlink(path);
}

MuseStatus muse_http_download(MuseHttp *h, const char *url, const char *part, uint64_t size, int *out_code,
                              MuseDiag *diag) {
  int fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) {
    int code = errno;
    if (fd >= 0) close(fd);
    return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", part, strerror(code));
  }
  MuseStr etag_path = {0}, if_range = {0};
  muse_str_appendf(&etag_path, "%s.etag", part);
  Sink s = {.http = h, .fd = fd, .part = part, .size = size, .offset = (uint64_t)st.st_size};
  if (s.offset > size && ftruncate(fd, 0) == 0) s.offset = 0;
  read_etag(etag_path.data, &if_range);
  MuseStatus status = MUSE_OK;
  if (s.offset == size && size > 0) s.headers.code = 200; // all of it is there
  else status = request(h, url, &s, &if_range, diag);
  *out_code = s.headers.code == 206 ? 200 : s.headers.code;
  if (status == MUSE_OK && *out_code == 200 && fsync(fd) != 0)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", part, strerror(errno));
  if (status != MUSE_OK && s.offset > 0) write_etag(etag_path.data, &if_range);
  else unlink(etag_path.data);
  if (close(fd) != 0 && status == MUSE_OK)
    status = muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", part, strerror(errno));
  if (s.offset == 0 && (status != MUSE_OK || *out_code != 200)) unlink(part);
  muse_str_free(&etag_path);
  muse_str_free(&if_range);
  return status;
}

bool muse_http_is_unreachable(const MuseHttp *http) { return http->unreachable; }

MuseStatus muse_http_create(const MuseHttpOptions *options, MuseHttp **out_http, MuseDiag *diag) {
  *out_http = NULL;
  if (options->token && strcspn(options->token, "\r\n") != strlen(options->token))
    return muse_error(diag, MUSE_ERR_INPUT, "the token has a line break in it; set HF_TOKEN to the token alone");
  CURL *curl = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
  if (!curl) return muse_error(diag, MUSE_ERR_FAILED, "libcurl cannot be started");
  MuseHttp *h = calloc(1, sizeof *h);
  if (!h) muse_out_of_memory(sizeof *h);
  *h = (MuseHttp){.curl = curl, .options = *options};
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "muse-data/" MUSE_VERSION);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, h);
  *out_http = h;
  return MUSE_OK;
}

void muse_http_destroy(MuseHttp *http) {
  if (!http) return;
  curl_easy_cleanup(http->curl);
  free(http);
  curl_global_cleanup();
}
