// Headers: Retry-After (RFC 9110), RateLimit (draft-ietf-httpapi-ratelimit-headers, in its old form of three headers
// and the new one of a list), Link (RFC 8288), Content-Range, ETag.
#include "corpus/http_headers.h"

#include <ctype.h>
#include <curl/curl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

void muse_http_headers_reset(MuseHttpHeaders *h) {
  *h = (MuseHttpHeaders){.range_start = UINT64_MAX, .range_total = UINT64_MAX, .retry_after = -1, .quota_left = -1,
                         .quota_reset = -1};
}

// Longer values are no values: a cut ETag or URL would be another one.
static void copy(char *out, size_t cap, const char *value, size_t n) {
  if (n >= cap) n = 0;
  memcpy(out, value, n);
  out[n] = 0;
}

static double seconds(const char *text) {
  char *end;
  double value = strtod(text, &end);
  return end != text && isfinite(value) && value >= 0 ? value : -1;
}

static double retry_after(const char *text) {
  if (isdigit((unsigned char)*text)) return seconds(text);
  time_t date = curl_getdate(text, NULL);
  if (date == (time_t)-1) return -1;
  double left = difftime(date, time(NULL));
  return left > 0 ? left : 0;
}

// RateLimit: "api";r=0;t=55
static void read_rate_limit(MuseHttpHeaders *h, const char *text) {
  for (const char *p = text; (p = strchr(p, ';'));) {
    p += 1 + strspn(p + 1, " ");
    if (p[0] == 'r' && p[1] == '=') h->quota_left = seconds(p + 2);
    if (p[0] == 't' && p[1] == '=') h->quota_reset = seconds(p + 2);
  }
}

// Link: <URL>; rel="next", <URL>; rel="last"
static void read_link(MuseHttpHeaders *h, const char *text) {
  for (const char *p = text; (p = strchr(p, '<'));) {
    const char *end = strchr(p, '>');
    if (!end) return;
    const char *next = strchr(end, '<');
    const char *rel = strstr(end, "rel=\"next\"");
    if (rel && (!next || rel < next)) {
      copy(h->next, sizeof h->next, p + 1, (size_t)(end - p - 1));
      return;
    }
    p = end;
  }
}

// Content-Range: bytes 100-199/200, bytes */200
static void read_range(MuseHttpHeaders *h, const char *text) {
  char *end;
  if (strncasecmp(text, "bytes", 5) != 0) return;
  text += 5 + strspn(text + 5, " ");
  if (isdigit((unsigned char)*text)) h->range_start = strtoull(text, &end, 10);
  const char *slash = strchr(text, '/');
  if (slash && isdigit((unsigned char)slash[1])) h->range_total = strtoull(slash + 1, &end, 10);
}

void muse_http_headers_add(MuseHttpHeaders *h, const char *line, size_t length) {
  char text[MUSE_HTTP_URL_BYTES + 64];
  while (length && isspace((unsigned char)line[length - 1])) length--;
  if (length >= sizeof text) return;
  memcpy(text, line, length);
  text[length] = 0;
  if (strncmp(text, "HTTP/", 5) == 0) {
    muse_http_headers_reset(h);
    const char *space = strchr(text, ' ');
    h->code = space ? atoi(space + 1) : 0;
    return;
  }
  char *colon = strchr(text, ':');
  if (!colon) return;
  *colon = 0;
  const char *value = colon + 1 + strspn(colon + 1, " \t");
  size_t n = strlen(value);
  if (!strcasecmp(text, "etag")) copy(h->etag, sizeof h->etag, value, n);
  else if (!strcasecmp(text, "x-revision") || !strcasecmp(text, "x-repo-commit"))
    copy(h->revision, sizeof h->revision, value, n);
  else if (!strcasecmp(text, "link")) read_link(h, value);
  else if (!strcasecmp(text, "content-range")) read_range(h, value);
  else if (!strcasecmp(text, "retry-after")) h->retry_after = retry_after(value);
  else if (!strcasecmp(text, "ratelimit")) read_rate_limit(h, value);
  else if (!strcasecmp(text, "ratelimit-remaining")) h->quota_left = seconds(value);
  else if (!strcasecmp(text, "ratelimit-reset")) h->quota_reset = seconds(value);
}

double muse_http_headers_wait(const MuseHttpHeaders *h) {
  if (h->retry_after >= 0) return h->retry_after;
  return h->code == 429 && h->quota_reset >= 0 ? h->quota_reset : -1;
}

double muse_http_headers_quota_wait(const MuseHttpHeaders *h) {
  return h->quota_left == 0 && h->quota_reset > 0 ? h->quota_reset : 0;
}

typedef struct Origin { char *scheme, *host, *port; } Origin;

static bool read_origin(const char *url, Origin *out) {
  *out = (Origin){0};
  CURLU *u = curl_url();
  bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_SCHEME, &out->scheme, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_HOST, &out->host, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_PORT, &out->port, CURLU_DEFAULT_PORT) == CURLUE_OK;
  curl_url_cleanup(u);
  return ok;
}

static void free_origin(Origin *o) {
  curl_free(o->scheme);
  curl_free(o->host);
  curl_free(o->port);
}

bool muse_http_same_origin(const char *a, const char *b) {
  Origin x, y;
  bool ok = read_origin(a, &x), also = read_origin(b, &y);
  bool same = ok && also && !strcasecmp(x.scheme, y.scheme) && !strcasecmp(x.host, y.host) && !strcmp(x.port, y.port);
  free_origin(&x);
  free_origin(&y);
  return same;
}

bool muse_http_is_private(const char *url) {
  Origin o;
  bool ok = read_origin(url, &o);
  bool loopback = ok && (!strcasecmp(o.host, "localhost") || !strcmp(o.host, "[::1]") ||
                         (!strncmp(o.host, "127.", 4) && strspn(o.host, "0123456789.") == strlen(o.host)));
  ok = ok && (loopback || !strcasecmp(o.scheme, "https"));
  free_origin(&o);
  return ok;
}
