// The command `doctor`: what this machine offers to MUSE.
#include "compiler/emit.h"
#include "ir/base/io.h"
#include "runtime/commands.h"
#include "runtime/metrics.h"
#include "runtime/pool.h"

#include "ir/base/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

typedef struct Report {
  bool json;
  MuseStr text; // JSON so far
} Report;

static void add_text(Report *r, const char *key, const char *label, const char *value) {
  if (!r->json) {
    printf("%-14s %s\n", label, value);
    return;
  }
  muse_str_appendf(&r->text, "%s\"%s\":", r->text.len ? "," : "{", key);
  muse_json_append_text(&r->text, value, strlen(value));
}

static void add_bytes(Report *r, const char *key, const char *label, uint64_t bytes, const char *note) {
  if (r->json) {
    muse_str_appendf(&r->text, "%s\"%s\":%llu", r->text.len ? "," : "{", key, (unsigned long long)bytes);
    return;
  }
  MuseStr s = {0};
  muse_str_append_bytes(&s, bytes);
  printf("%-14s %s%s\n", label, muse_str_text(&s), note);
  muse_str_free(&s);
}

// Value of "key : value" in a file of /proc, or NULL; to be freed.
static char *proc_value(const char *path, const char *key) {
  FILE *f = fopen(path, "r");
  char *line = NULL, *found = NULL;
  size_t cap = 0;
  while (f && !found && getline(&line, &cap, f) > 0) {
    char *colon = strchr(line, ':');
    if (!colon || !muse_str_starts_with(line, key)) continue;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    value[strcspn(value, "\n")] = 0;
    found = strdup(value);
  }
  free(line);
  if (f) fclose(f);
  return found;
}

static bool has_word(const char *list, const char *word) {
  size_t n = strlen(word);
  for (const char *p = list; p && (p = strstr(p, word)); p += n)
    if ((p == list || p[-1] == ' ') && (p[n] == 0 || p[n] == ' ')) return true;
  return false;
}

static void report_cpu(Report *r) {
  static const char *const interesting[] = {"avx2",        "fma",         "f16c",        "avx512f",  "avx512bw",
                                            "avx512_vnni", "avx512_vbmi", "avx512_bf16", "avx_vnni", "amx_tile",
                                            "amx_int8",    "amx_bf16",    "asimd",       "asimddp",  "sve"};
  char *model = proc_value("/proc/cpuinfo", "model name"), *flags = proc_value("/proc/cpuinfo", "flags");
  if (!flags) flags = proc_value("/proc/cpuinfo", "Features");
  struct utsname name;
  MuseStr have = {0};
  for (size_t i = 0; i < sizeof interesting / sizeof *interesting; i++)
    if (has_word(flags, interesting[i])) muse_str_appendf(&have, "%s%s", have.len ? " " : "", interesting[i]);
  add_text(r, "cpu", "processor", model ? model : uname(&name) == 0 ? name.machine : "unknown");
  add_text(r, "cpu_features", "features", have.len ? have.data : "none that MUSE uses");
  char cores[32];
  snprintf(cores, sizeof cores, "%d", muse_available_cores());
  if (r->json) muse_str_appendf(&r->text, ",\"cores\":%s", cores);
  else add_text(r, "cores", "cores", cores);
  muse_str_free(&have);
  free(model);
  free(flags);
}

static void report_memory(Report *r) {
  static const struct { const char *proc, *key, *label;
  } rows[] = {{"MemTotal", "memory_bytes", "memory"}, {"MemAvailable", "memory_available_bytes", "of that free"}};
  for (int i = 0; i < 2; i++) {
    char *value = proc_value("/proc/meminfo", rows[i].proc);
    if (value) add_bytes(r, rows[i].key, rows[i].label, strtoull(value, NULL, 10) * 1024, "");
    free(value);
  }
}

static void report_disk(Report *r, const char *path, const char *key, const char *label) {
  struct statvfs v;
  if (statvfs(path, &v) != 0) return;
  add_bytes(r, key, label, (uint64_t)v.f_bavail * v.f_frsize, " free");
}

// The code generator; without it no plan runs on the CPU.
static MuseStatus report_generator(Report *r, MuseDiag *diag) {
  const MuseCpuModule *module;
  MUSE_TRY(muse_cpu_module_load(&module, diag));
  add_text(r, "cpu_module", "libmuse-cpu.so", module->version);
  MuseCpuTarget target;
  MuseStr levels = {0};
  for (int level = MUSE_CPU_SCALAR; level <= MUSE_CPU_NEON_DOT; level++)
    if (module->host_target((MuseCpuLevel)level, true, &target))
      muse_str_appendf(&levels, "%s%s", levels.len ? " " : "", muse_cpu_level_name((MuseCpuLevel)level));
  if (module->host_target(MUSE_CPU_NEON_DOT, false, &target)) {
    add_text(r, "cpu_level", "CPU level", muse_cpu_level_name(target.level));
    add_text(r, "cpu_levels", "--cpu-level", muse_str_text(&levels));
  }
  muse_str_free(&levels);
  return MUSE_OK;
}

static MuseStatus doctor(bool json, MuseDiag *diag) {
  Report r = {.json = json};
  MuseStr cache = {0};
  add_text(&r, "version", "muse-run", MUSE_VERSION);
  report_cpu(&r);
  report_memory(&r);
  report_disk(&r, ".", "disk_free_bytes", "this folder");
  MuseStatus status = report_generator(&r, diag);
  MuseStatus cached = muse_cache_dir(&cache, diag);
  if (cached == MUSE_OK) {
    add_text(&r, "cache_dir", "kernel cache", muse_str_text(&cache));
    report_disk(&r, muse_str_text(&cache), "cache_free_bytes", "");
  }
  muse_str_free(&cache);
  if (json) printf("%s}\n", muse_str_text(&r.text));
  muse_str_free(&r.text);
  return status != MUSE_OK ? status : cached;
}

MuseStatus muse_command_doctor(int argc, char **argv, MuseDiag *diag) {
  bool json = false, help = false;
  const MuseOption table[] = {
      {"json", 0, MUSE_OPT_FLAG, NULL, "Print one JSON object.", &json},
      {0},
  };
  MuseTextList operands = {0};
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help)
    muse_options_help(table, "muse-run doctor [--json]", "Shows processor, memory, disk, code generator and cache.",
                      stdout);
  else if (status == MUSE_OK && operands.len)
    status = muse_error(diag, MUSE_ERR_INPUT, "muse-run doctor takes no operand ('%s')", operands.data[0]);
  else if (status == MUSE_OK) status = doctor(json, diag);
  muse_text_list_free(&operands);
  return status;
}
