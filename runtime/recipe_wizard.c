// The wizard of recipes: asks on the terminal, in English or Japanese, for what the options leave open.
#include "runtime/recipe.h"

#include "ir/base/io.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

typedef struct Wizard {
  const MuseRecipeOptions *o;
  bool japanese, wide;      // wide: the terminal shows UTF-8
  MuseFoundSets sets;
  MuseMachine machine;
  const char *mixture;      // its name
  const MuseModelChoice *model; // NULL: no config
  MuseTemplate config;
  double tokens;
  const char *recipe_path;
  MuseStr model_path;
  bool replaces_recipe, replaces_model; // the user said so
  char typed[4096];         // read and not yet used
  size_t n_typed;
  bool ended;               // of the input
} Wizard;

// ---- talking ----

__attribute__((format(printf, 2, 4), format(printf, 3, 4))) static void say(const Wizard *w, const char *english,
                                                                            const char *japanese, ...) {
  va_list args;
  va_start(args, japanese);
  vprintf(w->japanese ? japanese : english, args);
  va_end(args);
}

// Columns of text on a terminal, where East Asian characters take two.
static int columns_of(const char *text) {
  int columns = 0;
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    if ((*p & 0xc0) == 0x80) continue;
    columns += *p >= 0xe3 && *p <= 0xed ? 2 : 1; // U+3000 to U+DFFF: kana, kanji, hangul
  }
  return columns;
}

static void pad(const char *text, int columns) { printf("%s%*s", text, columns - columns_of(text), ""); }

static void print_count(double n) {
  if (n >= 1e12) printf("%7.2fT", n / 1e12);
  else if (n >= 1e9) printf("%7.2fG", n / 1e9);
  else if (n >= 1e6) printf("%7.2fM", n / 1e6);
  else if (n >= 1e3) printf("%7.2fk", n / 1e3);
  else printf("%7.0f ", n);
}

static MuseStatus stopped(MuseDiag *diag) {
  putchar('\n');
  return muse_error(diag, MUSE_ERR_STOPPED, "stopped; nothing was written");
}

// Waits for more input; poll, unlike read, comes back when a signal does.
static MuseStatus read_more(Wizard *w, MuseDiag *diag) {
  for (;;) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (*w->o->stop) return stopped(diag);
    if (poll(&input, 1, -1) < 0) {
      if (errno == EINTR) continue;
      return muse_error(diag, MUSE_ERR_FAILED, "cannot wait for an answer: %s", strerror(errno));
    }
    ssize_t n = read(STDIN_FILENO, w->typed + w->n_typed, sizeof w->typed - w->n_typed);
    if (n < 0 && errno == EINTR) continue;
    if (*w->o->stop) return stopped(diag);
    if (n <= 0) w->ended = true;
    else w->n_typed += (size_t)n;
    return MUSE_OK;
  }
}

// A line of input without blanks around it; at the end of the input MUSE_ERR_INPUT.
static MuseStatus read_line(Wizard *w, char *out, size_t size, MuseDiag *diag) {
  fflush(stdout);
  char *newline;
  while (!(newline = memchr(w->typed, '\n', w->n_typed))) {
    if (w->n_typed == sizeof w->typed)
      return muse_error(diag, MUSE_ERR_INPUT, "an answer of more than %zu bytes; nothing was written", sizeof w->typed);
    if (w->ended)
      return muse_error(diag, MUSE_ERR_INPUT, "the input ended before all was answered, so nothing was written; "
                                              "--preset and --yes answer without questions");
    MUSE_TRY(read_more(w, diag));
  }
  size_t length = (size_t)(newline - w->typed), first = 0, end = length;
  while (first < end && strchr(" \t\r", w->typed[first])) first++;
  while (end > first && strchr(" \t\r", w->typed[end - 1])) end--;
  snprintf(out, size, "%.*s", (int)(end - first), w->typed + first);
  w->n_typed -= length + 1;
  memmove(w->typed, newline + 1, w->n_typed);
  return MUSE_OK;
}

// A number from `low` to `high`; an empty line is `fallback`.
static MuseStatus ask_number(Wizard *w, const char *english, const char *japanese, int low, int high, int fallback,
                             int *out, MuseDiag *diag) {
  for (;;) {
    char line[64];
    int64_t number;
    printf("%s [%d]: ", w->japanese ? japanese : english, fallback);
    MUSE_TRY(read_line(w, line, sizeof line, diag));
    *out = fallback;
    if (!*line) return MUSE_OK;
    if (muse_parse_i64(line, &number) && number >= low && number <= high) {
      *out = (int)number;
      return MUSE_OK;
    }
    say(w, "Please type a number from %d to %d.\n", "%d から %d の数字を入力してください。\n", low, high);
  }
}

static MuseStatus ask_yes(Wizard *w, bool fallback, bool *out, MuseDiag *diag) {
  for (;;) {
    char line[64];
    printf(fallback ? " [Y/n]: " : " [y/N]: ");
    MUSE_TRY(read_line(w, line, sizeof line, diag));
    *out = fallback;
    if (!*line) return MUSE_OK;
    *out = strcasecmp(line, "y") == 0 || strcasecmp(line, "yes") == 0 || strcmp(line, "はい") == 0;
    if (*out || strcasecmp(line, "n") == 0 || strcasecmp(line, "no") == 0 || strcmp(line, "いいえ") == 0)
      return MUSE_OK;
    say(w, "y or n?", "y か n で答えてください。");
  }
}

// ---- the mixture ----

static const char *kind_name(const Wizard *w, MuseSetKind kind) {
  static const char *const english[] = {"textbook", "code", "Japanese", "English", "other"};
  static const char *const japanese[] = {"教科書", "コード", "日本語", "英語", "その他"};
  return (w->japanese ? japanese : english)[kind];
}

static int name_columns(const Wizard *w) {
  int columns = 8;
  for (int i = 0; i < w->sets.n; i++) {
    int own = columns_of(w->sets.sets[i].name);
    if (own > columns) columns = own;
  }
  return columns;
}

static void show_sets(const Wizard *w, const char *left_out) {
  int columns = name_columns(w);
  say(w, "Token sets in '%s':\n", "'%s' のトークンセット:\n", w->o->data);
  for (int i = 0; i < w->sets.n; i++) {
    const MuseFoundSet *s = &w->sets.sets[i];
    printf("  ");
    pad(s->name, columns + 2);
    pad(kind_name(w, s->kind), 10);
    print_count((double)s->n_tokens);
    say(w, " tokens, %lld documents%s%s\n", " トークン、%lld 文書%s%s\n", (long long)s->n_documents,
        *s->tokenizer ? ", " : "", s->tokenizer);
  }
  if (*left_out) say(w, "Left out:\n%s", "対象外:\n%s", left_out);
}

static void print_bar(const Wizard *w, double share) {
  enum { LENGTH = 30 };
  int full = (int)lround(share * LENGTH);
  for (int i = 0; i < LENGTH; i++) fputs(i < full ? (w->wide ? "█" : "#") : (w->wide ? "░" : "."), stdout);
}

static void show_mixture(const Wizard *w) {
  int columns = name_columns(w);
  say(w, "\nMixture '%s' for ", "\n配合 '%s'、予定トークン数", w->mixture);
  print_count(w->tokens);
  say(w, " tokens:\n", ":\n");
  for (int i = 0; i < w->sets.n; i++) {
    const MuseFoundSet *s = &w->sets.sets[i];
    double epochs = muse_recipe_epochs(s, w->tokens);
    printf("  ");
    pad(s->name, columns + 2);
    print_bar(w, s->weight);
    printf(" %5.1f %% ", 100 * s->weight);
    print_count(w->tokens * s->weight);
    say(w, "  %.2f times%s\n", "  %.2f 回%s\n", epochs, epochs > MUSE_MAX_EPOCHS ? "  (!)" : "");
  }
  fflush(stdout);
}

// On stderr, so that a script sees it, too.
static void warn_of_repeats(const Wizard *w) {
  for (int i = 0; i < w->sets.n; i++) {
    const MuseFoundSet *s = &w->sets.sets[i];
    double epochs = muse_recipe_epochs(s, w->tokens);
    if (epochs <= MUSE_MAX_EPOCHS) continue;
    if (w->japanese)
      fprintf(stderr,
              "警告: '%s' は %.1f 回繰り返されます。4 回を超えると学習効果は小さくなります (arXiv:2305.16264)。"
              "割合かトークン数を減らすか、データを増やしてください。\n",
              s->name, epochs);
    else
      fprintf(stderr,
              "warning: '%s' is gone through %.1f times; beyond 4 times the same text teaches little "
              "(arXiv:2305.16264). Lower its share, plan fewer tokens, or add data.\n",
              s->name, epochs);
  }
}

static MuseStatus ask_weights(Wizard *w, MuseDiag *diag) {
  say(w, "A weight for each set, in any unit (0 leaves it out):\n",
      "各セットの重みを入力してください (単位は自由、0 は除外):\n");
  for (int i = 0; i < w->sets.n; i++) {
    MuseFoundSet *s = &w->sets.sets[i];
    for (;;) {
      char line[64];
      double weight = round(1000 * s->weight) / 10;
      printf("  %s [%.4g]: ", s->name, weight);
      MUSE_TRY(read_line(w, line, sizeof line, diag));
      if (*line && (!muse_parse_double(line, &weight) || !(weight >= 0 && weight <= 1e9))) {
        say(w, "Please type a number from 0 on.\n", "0 以上の数を入力してください。\n");
        continue;
      }
      s->weight = weight;
      break;
    }
  }
  return MUSE_OK;
}

static MuseStatus use_preset(Wizard *w, const MusePreset *preset, MuseDiag *diag) {
  if (!muse_recipe_has_kind(&w->sets, preset->lead))
    return muse_error(diag, MUSE_ERR_INPUT,
                      "the mixture '%s' needs a set of the kind '%s', and '%s' has none; make one (make data, make "
                      "data-ja), or choose another mixture",
                      preset->name, kind_name(w, preset->lead), w->o->data);
  w->mixture = preset->name;
  muse_recipe_apply(preset, &w->sets);
  return muse_recipe_normalise(&w->sets, diag);
}

static MuseStatus ask_mixture(Wizard *w, MuseDiag *diag) {
  for (;;) {
    int number;
    say(w, "\nWhich mixture?\n", "\nどの配合にしますか?\n");
    for (int i = 0; i < MUSE_N_PRESETS; i++) {
      const MusePreset *p = &muse_presets[i];
      printf("  %d  ", i + 1);
      pad(p->name, 10);
      printf("%s", w->japanese ? p->japanese : p->english);
      if (!muse_recipe_has_kind(&w->sets, p->lead)) say(w, " (there is no such set)", " (該当するセットがありません)");
      putchar('\n');
    }
    say(w, "  %d  custom    your own weights\n", "  %d  custom    自分で決める\n", MUSE_N_PRESETS + 1);
    MUSE_TRY(ask_number(w, "Mixture", "配合", 1, MUSE_N_PRESETS + 1, 1, &number, diag));
    if (number <= MUSE_N_PRESETS) {
      if (muse_recipe_has_kind(&w->sets, muse_presets[number - 1].lead))
        return use_preset(w, &muse_presets[number - 1], diag);
      say(w, "That needs data that is not there yet (make data, make data-ja).\n",
          "必要なデータがまだありません (make data, make data-ja)。\n");
      continue;
    }
    w->mixture = "custom";
    muse_recipe_apply(&muse_presets[0], &w->sets);
    MUSE_TRY(ask_weights(w, diag));
    if (muse_recipe_normalise(&w->sets, NULL) == MUSE_OK) return MUSE_OK;
    say(w, "All weights are 0; give at least one set a share.\n",
        "すべての重みが 0 です。少なくとも一つは 0 より大きくしてください。\n");
  }
}

static MuseStatus choose_mixture(Wizard *w, MuseDiag *diag) {
  const MuseRecipeOptions *o = w->o;
  bool custom = o->preset && strcasecmp(o->preset, "custom") == 0;
  if (o->weights.len && o->preset && !custom)
    return muse_error(diag, MUSE_ERR_INPUT, "give either --preset or --weights, not both");
  if (o->weights.len) {
    w->mixture = "custom";
    MUSE_TRY(muse_recipe_weights(&o->weights, &w->sets, diag));
    return muse_recipe_normalise(&w->sets, diag);
  }
  if (custom && o->yes)
    return muse_error(diag, MUSE_ERR_INPUT, "--preset custom needs weights: --weights NAME=WEIGHT,...");
  if (custom) {
    w->mixture = "custom";
    muse_recipe_apply(&muse_presets[0], &w->sets);
    MUSE_TRY(ask_weights(w, diag));
    return muse_recipe_normalise(&w->sets, diag);
  }
  if (!o->preset) return o->yes ? use_preset(w, &muse_presets[0], diag) : ask_mixture(w, diag);
  const MusePreset *preset = muse_recipe_preset(o->preset);
  if (preset) return use_preset(w, preset, diag);
  return muse_error(diag, MUSE_ERR_INPUT, "unknown mixture '%s'; there are balanced, code, japanese, textbook, custom",
                    o->preset);
}

// ---- the model ----

static void show_machine(const Wizard *w) {
  const MuseMachine *m = &w->machine;
  MuseStr memory = {0}, gpu = {0};
  muse_str_append_bytes(&memory, m->memory);
  muse_str_append_bytes(&gpu, m->gpu_memory);
  if (m->gpu_memory)
    say(w, "\nThis machine: %d cores, %s of memory; %s with %s.\n", "\nこのマシン: %d コア、メモリ %s、%s (%s)。\n",
        m->cores, muse_str_text(&memory), *m->gpu ? m->gpu : "GPU", muse_str_text(&gpu));
  else
    say(w, "\nThis machine: %d cores, %s of memory, no GPU.\n", "\nこのマシン: %d コア、メモリ %s、GPU なし。\n",
        m->cores, muse_str_text(&memory));
  muse_str_free(&memory);
  muse_str_free(&gpu);
}

static MuseStatus ask_model(Wizard *w, MuseDiag *diag) {
  int suits = (int)(muse_recipe_suits(&w->machine) - muse_models), number;
  say(w, "Make a config for it, too?\n  0  no\n", "このマシンに合う設定ファイルも作りますか?\n  0  作らない\n");
  for (int i = 0; i < MUSE_N_MODELS; i++) {
    MuseStr need = {0};
    muse_str_append_bytes(&need, (uint64_t)muse_models[i].bytes);
    printf("  %d  ", i + 1);
    pad(muse_models[i].name, 6);
    say(w, "needs %s", "必要メモリ %s", muse_str_text(&need));
    if (!muse_recipe_fits(&w->machine, &muse_models[i])) say(w, ": does not fit", ": 入りません");
    else if (i == suits) say(w, ": suits this machine", ": おすすめ");
    putchar('\n');
    muse_str_free(&need);
  }
  MUSE_TRY(ask_number(w, "Config", "設定", 0, MUSE_N_MODELS, suits + 1, &number, diag));
  w->model = number ? &muse_models[number - 1] : NULL;
  return MUSE_OK;
}

static MuseStatus choose_model(Wizard *w, MuseDiag *diag) {
  const MuseRecipeOptions *o = w->o;
  if (o->model && strcasecmp(o->model, "auto") == 0) w->model = muse_recipe_suits(&w->machine);
  else if (o->model && strcasecmp(o->model, "none") != 0) {
    w->model = muse_recipe_model(o->model);
    if (!w->model)
      return muse_error(diag, MUSE_ERR_INPUT, "unknown config '%s'; there are tiny, 300m, 1b, 10b, auto, none",
                        o->model);
    if (!muse_recipe_fits(&w->machine, w->model))
      fprintf(stderr, "warning: '%s' needs more memory than this machine has; its training will be refused here\n",
              w->model->name);
  } else if (!o->model && !o->yes) {
    show_machine(w);
    MUSE_TRY(ask_model(w, diag));
  }
  if (!w->model) return MUSE_OK;
  if (o->model_output) muse_str_append(&w->model_path, o->model_output);
  else muse_str_appendf(&w->model_path, "%s/my_%s.yaml", o->configs ? o->configs : "configs", w->model->name);
  if (muse_str_eq(w->model_path.data, w->recipe_path))
    return muse_error(diag, MUSE_ERR_INPUT, "recipe and config cannot both be '%s'", w->recipe_path);
  return muse_template_read(o->configs, w->model, &w->config, diag);
}

// Without a word about it: what the config trains; without a config, each token once.
static double default_tokens(const Wizard *w) {
  double tokens = 0;
  if (w->model) return muse_template_step_tokens(&w->config) * muse_template_number(&w->config, "max_steps", 10000);
  for (int i = 0; i < w->sets.n; i++) tokens += w->sets.sets[i].weight > 0 ? (double)w->sets.sets[i].n_tokens : 0;
  return tokens;
}

static MuseStatus choose_tokens(Wizard *w, MuseDiag *diag) {
  w->tokens = default_tokens(w);
  if (w->o->tokens) {
    if (muse_recipe_parse_tokens(w->o->tokens, &w->tokens)) return MUSE_OK;
    return muse_error(diag, MUSE_ERR_INPUT, "--tokens takes a number of tokens such as 300M, 2B or 1e9, not '%s'",
                      w->o->tokens);
  }
  while (!w->o->yes) {
    char line[64], count[MUSE_COUNT_TEXT];
    muse_recipe_count_text(w->tokens, count);
    say(w, "\nHow many tokens will you train on (300M, 2B, 1e9)? [%s]: ",
        "\n何トークン学習しますか (例: 300M, 2B, 1e9)? [%s]: ", count);
    MUSE_TRY(read_line(w, line, sizeof line, diag));
    if (!*line || muse_recipe_parse_tokens(line, &w->tokens)) break;
    say(w, "Please type a number such as 300M.", "300M のような数を入力してください。");
  }
  return MUSE_OK;
}

// ---- writing ----

static MuseStatus may_write(Wizard *w, const char *path, const char *option, bool *out_yes, MuseDiag *diag) {
  *out_yes = true;
  bool exists = access(path, F_OK) == 0;
  if (w->o->yes) {
    if (!exists || w->o->force) return MUSE_OK;
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is there already; --force replaces it, %s names another file", path,
                      option);
  }
  if (exists && w->o->force) return MUSE_OK;
  if (exists) say(w, "'%s' is there already. Replace it?", "'%s' は既にあります。置き換えますか?", path);
  else say(w, "Write '%s'?", "'%s' を書き込みますか?", path);
  return ask_yes(w, !exists, out_yes, diag);
}

static MuseStatus put(MuseAtomicFile *f, const char *path, const MuseStr *text, MuseDiag *diag) {
  if (muse_str_starts_with(path, "configs/")) MUSE_TRY(muse_make_dirs("configs", 0777, diag)); // the usual place
  MUSE_TRY(muse_atomic_open(path, f, diag));
  if (fwrite(text->data, 1, text->len, f->file) == text->len && fflush(f->file) == 0) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_FAILED, "cannot write '%s': %s", path, strerror(errno));
}

// Both files are written in full before either gets its name.
static MuseStatus write_files(Wizard *w, bool recipe, bool config, MuseDiag *diag) {
  MuseAtomicFile files[2] = {0};
  MuseStr text = {0};
  muse_recipe_print(&w->sets, w->mixture, w->tokens, &text);
  MuseStatus status = recipe ? put(&files[0], w->recipe_path, &text, diag) : MUSE_OK;
  if (status == MUSE_OK && config) status = put(&files[1], w->model_path.data, &w->config.text, diag);
  for (int i = 0; i < 2; i++) {
    if (!files[i].file) continue;
    if (status == MUSE_OK && *w->o->stop) status = stopped(diag);
    if (status == MUSE_OK) status = muse_atomic_finish(&files[i], diag);
    else muse_atomic_abort(&files[i]);
  }
  muse_str_free(&text);
  return status;
}

// muse-run as one would call it: from the folder that this program was called from.
static void append_muse_run(MuseStr *out) {
  const char *name = program_invocation_name, *slash = strrchr(name, '/');
  if (slash) muse_str_append_n(out, name, (size_t)(slash + 1 - name));
  muse_str_append(out, "muse-run");
}

// runs/NAME of a config FOLDER/NAME.yaml.
static void append_run_dir(const char *config, MuseStr *out) {
  const char *slash = strrchr(config, '/'), *name = slash ? slash + 1 : config, *dot = strrchr(name, '.');
  muse_str_append(out, "runs/");
  muse_str_append_n(out, name, dot ? (size_t)(dot - name) : strlen(name));
}

static void show_training(const char *config, const char *recipe, bool compressed) {
  MuseStr line = {0}, run = {0};
  append_muse_run(&run);
  if (compressed) muse_str_appendf(&line, "  %s compress %s -o checkpoints/start\n", run.data, config);
  muse_str_appendf(&line, "  %s train %s%s --data %s -o ", run.data, config ? config : "CONFIG.yaml",
                   compressed ? " --init checkpoints/start" : "", recipe);
  if (config) append_run_dir(config, &line);
  else muse_str_append(&line, "RUN_DIR");
  puts(muse_str_text(&line));
  muse_str_free(&line);
  muse_str_free(&run);
}

static void show_next(const Wizard *w, bool recipe, bool config) {
  if (!recipe && !config) {
    say(w, "Nothing was written.\n", "何も書き込みませんでした。\n");
    return;
  }
  if (recipe) say(w, "Wrote '%s'.\n", "'%s' を書き込みました。\n", w->recipe_path);
  if (config) say(w, "Wrote '%s'.\n", "'%s' を書き込みました。\n", w->model_path.data);
  say(w, "Next:\n", "次のコマンド:\n");
  // The verbs are there in MUSE's folder, not beside installed programs.
  bool by_make = muse_str_eq(w->recipe_path, "configs/dataset_mixing.yaml") && access("Makefile", F_OK) == 0;
  bool large = config && (muse_str_eq(w->model->name, "1b") || muse_str_eq(w->model->name, "10b"));
  if (config && by_make && muse_str_eq(w->model->name, "1b"))
    printf("  make compress-1b CONFIG_1B=%s\n  make train-compressed CONFIG_1B=%s\n", w->model_path.data,
           w->model_path.data);
  else if (config && by_make && muse_str_eq(w->model->name, "10b"))
    printf("  make compress-10b CONFIG_10B=%s\n  make train-10b CONFIG_10B=%s\n", w->model_path.data,
           w->model_path.data);
  else if (config || !by_make) show_training(config ? w->model_path.data : NULL, w->recipe_path, large);
  else printf("  make compress-1b\n  make train-compressed\n");
}

static MuseStatus converse(Wizard *w, MuseDiag *diag) {
  bool recipe, config = false, fine = true;
  MUSE_TRY(choose_mixture(w, diag));
  MUSE_TRY(choose_model(w, diag));
  MUSE_TRY(choose_tokens(w, diag));
  for (;;) {
    show_mixture(w);
    warn_of_repeats(w);
    if (w->o->yes) break;
    say(w, "Is this what you want?", "これでよいですか?");
    MUSE_TRY(ask_yes(w, true, &fine, diag));
    if (fine) break;
    MUSE_TRY(ask_mixture(w, diag));
    if (!w->o->tokens) MUSE_TRY(choose_tokens(w, diag));
  }
  if (w->model) MUSE_TRY(muse_template_fit(&w->config, &w->sets, w->o->tokenizer, w->tokens, diag));
  MUSE_TRY(may_write(w, w->recipe_path, "-o", &recipe, diag));
  if (w->model) MUSE_TRY(may_write(w, w->model_path.data, "--config-output", &config, diag));
  MUSE_TRY(write_files(w, recipe, config, diag));
  show_next(w, recipe, config);
  return MUSE_OK;
}

// "ja" of LC_ALL, LC_MESSAGES or LANG, the first that is set; and whether that says UTF-8.
static MuseStatus choose_language(Wizard *w, MuseDiag *diag) {
  static const char *const variables[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
  const char *locale = "";
  for (int i = 0; i < 3 && !*locale; i++) locale = getenv(variables[i]) ? getenv(variables[i]) : "";
  w->japanese = muse_str_starts_with(locale, "ja");
  const char *language = w->o->language;
  if (language && !muse_str_eq(language, "en") && !muse_str_eq(language, "ja"))
    return muse_error(diag, MUSE_ERR_INPUT, "--lang takes en or ja, not '%s'", language);
  if (language) w->japanese = muse_str_eq(language, "ja");
  w->wide = w->japanese || strcasestr(locale, "utf-8") || strcasestr(locale, "utf8");
  return MUSE_OK;
}

// Options that would be passed over in silence beside the others.
static MuseStatus check_options(const MuseRecipeOptions *o, MuseDiag *diag) {
  bool no_config = o->model ? strcasecmp(o->model, "none") == 0 : o->yes;
  const char *of_config = o->model_output ? "config-output" : o->tokenizer ? "tokenizer" : NULL;
  if (!no_config || !of_config) return MUSE_OK;
  return muse_error(diag, MUSE_ERR_INPUT, "--%s is for the config; add --config SIZE, or leave it out", of_config);
}

MuseStatus muse_data_recipe(const MuseRecipeOptions *options, MuseDiag *diag) {
  Wizard w = {.o = options, .recipe_path = options->output};
  MuseStr left_out = {0};
  MuseStatus status = check_options(options, diag);
  if (status == MUSE_OK) status = choose_language(&w, diag);
  if (status == MUSE_OK) status = muse_recipe_find_sets(options->data, &w.sets, &left_out, diag);
  if (status == MUSE_OK) {
    muse_recipe_machine(&w.machine);
    if (options->memory) w.machine.gpu_memory = options->memory;
    show_sets(&w, muse_str_text(&left_out));
    status = converse(&w, diag);
  }
  muse_template_free(&w.config);
  muse_recipe_free_sets(&w.sets);
  muse_str_free(&w.model_path);
  muse_str_free(&left_out);
  return status;
}
