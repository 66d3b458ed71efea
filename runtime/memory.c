// How much memory there is.
#include "runtime/memory.h"

#include "ir/base/str.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

// The number after `key` at the start of a line.
static bool read_number(const char *path, const char *key, uint64_t *out) {
  FILE *f = fopen(path, "r");
  char line[256];
  bool found = false;
  while (f && !found && fgets(line, sizeof line, f)) {
    unsigned long long value;
    found = strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), " %llu", &value) == 1;
    if (found) *out = value;
  }
  if (f) fclose(f);
  return found;
}

// What a control group (version 2) leaves; page cache is given back when memory is short, so it does not count.
static uint64_t left_in_group(const char *folder) {
  uint64_t most, now, active = 0, inactive = 0;
  MuseStr path = {0};
  muse_str_appendf(&path, "%s/memory.max", folder);
  bool limited = read_number(path.data, "", &most); // "max" is no number
  muse_str_clear(&path);
  muse_str_appendf(&path, "%s/memory.current", folder);
  limited = limited && read_number(path.data, "", &now);
  muse_str_clear(&path);
  muse_str_appendf(&path, "%s/memory.stat", folder);
  if (limited) {
    read_number(path.data, "active_file", &active);
    read_number(path.data, "inactive_file", &inactive);
  }
  muse_str_free(&path);
  if (!limited) return UINT64_MAX;
  now = now > active + inactive ? now - active - inactive : 0;
  return most > now ? most - now : 0;
}

static uint64_t left_in_groups(void) {
  char line[4096];
  uint64_t least = UINT64_MAX;
  FILE *f = fopen("/proc/self/cgroup", "r");
  while (f && fgets(line, sizeof line, f)) {
    if (strncmp(line, "0::/", 4) != 0) continue;
    line[strcspn(line, "\n")] = 0;
    MuseStr folder = {0};
    muse_str_appendf(&folder, "/sys/fs/cgroup%s", line + 3);
    while (folder.len >= strlen("/sys/fs/cgroup")) {
      uint64_t left = left_in_group(folder.data);
      if (left < least) least = left;
      char *slash = strrchr(folder.data, '/');
      *slash = 0;
      folder.len = (size_t)(slash - folder.data);
    }
    muse_str_free(&folder);
  }
  if (f) fclose(f);
  return least;
}

uint64_t muse_available_memory(void) {
  uint64_t kib, available = UINT64_MAX, group = left_in_groups();
  if (read_number("/proc/meminfo", "MemAvailable:", &kib)) available = kib * 1024;
  return group < available ? group : available;
}
