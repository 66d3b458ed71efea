// Every kind of bad configuration text, with the exact sentences and places that a user sees.
#include "compiler/config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

// Rows of bad text: as it stands, or followed by the keys that every config needs.
#define NEEDED "vocab_size: 64\nd_model: 64\nn_layers: 2\nn_seq: 32\n"
#define WHOLE(text) text, sizeof(text) - 1
#define PART(text) WHOLE(text NEEDED)

typedef struct BadText {
  const char *text;
  size_t length;
  const char *expected; // "line:col: sentence", one message a line
} BadText;

static const BadText bad_texts[] = {
    {PART("d_modle: 64\n"), "1:1: unknown key 'd_modle'; did you mean 'd_model'?"},
    {PART("D_MODEL: 64\n"), "1:1: unknown key 'D_MODEL'; did you mean 'd_model'?"},
    {PART("learning-rate: 1\n"), "1:1: unknown key 'learning-rate'; did you mean 'learning_rate'?"},
    {PART("dropout: 0.1\n"), "1:1: unknown key 'dropout'; musec --list-keys prints the keys there are"},
    {PART("\"\": 1\n"), "1:1: unknown key ''; musec --list-keys prints the keys there are"},
    {PART("1: 2\n"), "1:1: unknown key '1'; musec --list-keys prints the keys there are"},
    {PART("null: 2\n"), "1:1: unknown key 'null'; musec --list-keys prints the keys there are"},
    {PART("qwertyuiopasdfghjklzxcvbnmqwertyuiopasdfghjklzxcvbnmqwertyuiop: 1\n"),
     "1:1: unknown key 'qwertyuiopasdfghjklzxcvbnmqwertyuiopasdf...'; musec --list-keys prints the keys there are"},
    {PART("batch_size: 1\nbatch_size: 2\n"), "2:1: 'batch_size' is given twice, first in line 1; remove one"},
    {PART("beta1: 0.9\nadam_beta1: 0.9\n"),
     "1:1: note: 'beta1' is read as 'adam_beta1'\n2:1: 'adam_beta1' is given twice, first in line 1; remove one"},
    {PART("\"use_lap\\0\": true\n"), "1:1: unknown key 'use_lap\\x00'; musec --list-keys prints the keys there are"},
    {WHOLE(""), "1:1: the config is empty; it needs at least vocab_size, d_model, n_layers and n_seq"},
    {WHOLE("# only a comment\n"),
     "1:1: the config is empty; it needs at least vocab_size, d_model, n_layers and n_seq"},
    {WHOLE("---\n"), "2:1: the config is empty; it needs at least vocab_size, d_model, n_layers and n_seq"},
    {WHOLE("~\n"), "1:1: the config is empty; it needs at least vocab_size, d_model, n_layers and n_seq"},
    {WHOLE("hello\n"), "1:1: a config is a mapping with a line 'key: value' for each setting, not one value"},
    {WHOLE("- a\n- b\n"), "1:1: a config is a mapping with a line 'key: value' for each setting, not a list"},
    {WHOLE("[1, 2]\n"), "1:1: a config is a mapping with a line 'key: value' for each setting, not a list"},
    {WHOLE("...\n"), "1:1: a value is missing, or a bracket has no partner; write 'key: value'"},
    {WHOLE("use_lap: true\n---\nuse_lap: false\n"), "2:1: a second document starts here; a config is one document"},
    {WHOLE("? [a, b]\n: 1\n"), "1:3: a key must be a word, not a list"},
    {WHOLE("? {a: b}\n: 1\n"), "1:3: a key must be a word, not a mapping"},
    {WHOLE("batch_size: 1: 2\n"),
     "1:14: this ':' has no place here; give every 'key: value' a line of its own, look for a missing ':' in the "
     "line before, and put text with a colon in quotes"},
    {WHOLE("batch_size 1\nseed: 3\n"),
     "2:5: this ':' has no place here; give every 'key: value' a line of its own, look for a missing ':' in the "
     "line before, and put text with a colon in quotes"},
    {WHOLE("batch_size: [1\n"), "1:13: this '[' is never closed; add ']'"},
    {WHOLE("batch_size: {a: 1\n"), "1:13: this '{' is never closed; add '}'"},
    {WHOLE("sample_prompt: \"open\n"), "1:16: this quote is never closed; add the closing quote"},
    {WHOLE("\tbatch_size: 1\n"),
     "1:1: no value starts with this character; put text in quotes, and indent with spaces"},
    {WHOLE("batch_size:\t1\n\tseed: 2\n"), "1:13: a tab is no indentation in YAML; use spaces"},
    {WHOLE("seed: @3\n"), "1:7: no value starts with this character; put text in quotes, and indent with spaces"},
    {WHOLE("seed: %3\n"), "1:7: no value starts with this character; put text in quotes, and indent with spaces"},
    {WHOLE("sample_prompt: 'x\n"), "1:16: this quote is never closed; add the closing quote"},
    {WHOLE("  seed: 1\n batch_size: 2\n"),
     "2:2: this line is indented less than the first; start all keys in the same column"},
    {WHOLE("sample_prompt: \"\\q\"\n"),
     "1:17: an escape that YAML does not know; write \\\\ for a backslash, or use 'single quotes'"},
    {WHOLE("%YAML 3.0\n---\nseed: 1\n"), "1:1: a YAML version other than 1.1 and 1.2; remove the %YAML line"},
    {WHOLE("}\n"), "1:1: a value is missing, or a bracket has no partner; write 'key: value'"},
    {WHOLE("d_modle: 3\nseed: [\n"),
     "3:1: a value is missing, or a bracket has no partner; write 'key: value'\n1:1: unknown key 'd_modle'; did "
     "you mean 'd_model'?"},
    {WHOLE("a: &x [1]\nb: *x\n"), "1:4: anchors are not used in configs; remove '&x'"},
    {WHOLE("seed: *x\n"), "1:7: aliases are not used in configs; write the value instead of '*x'"},
    {WHOLE("seed: &x 1\n"), "1:7: anchors are not used in configs; remove '&x'"},
    {WHOLE("&x seed: 1\n"), "1:1: anchors are not used in configs; remove '&x'"},
    {WHOLE("seed: !!int 1\n"), "1:7: tags are not used in configs; remove the tag 'tag:yaml.org,2002:int'"},
    {WHOLE("sample_prompt: !!python/object:os.system x\n"),
     "1:16: tags are not used in configs; remove the tag 'tag:yaml.org,2002:python/object:os.syste...'"},
    {PART("<<: {seed: 1}\n"), "1:1: merge keys '<<' are not used in configs; write the keys out"},
    {WHOLE("seed: !<!%1b> 1\n"), "1:7: tags are not used in configs; remove the tag '!\\x1b'"},
    {WHOLE("seed: 1\nbatch_size: \000\n"), "2:13: a NUL byte; a config is plain text, remove the byte"},
    {WHOLE("seed: \377\n"), "1:7: byte 0xff is not UTF-8; save the file as UTF-8 text"},
    {WHOLE("sample_prompt: \303(\n"), "1:16: byte 0xc3 is not UTF-8; save the file as UTF-8 text"},
    {WHOLE("sample_prompt: \355\240\200\n"), "1:16: byte 0xed is not UTF-8; save the file as UTF-8 text"},
    {WHOLE("sample_prompt: \300\257\n"), "1:16: byte 0xc0 is not UTF-8; save the file as UTF-8 text"},
    {WHOLE("seed: \033[31m\n"), "1:7: control character U+001B; remove it, or write \"\\u001B\""},
    {WHOLE("\377\376s\000"), "1:1: byte 0xff is not UTF-8; save the file as UTF-8 text"},
    {WHOLE("sample_prompt: \302\200\n"), "1:16: control character U+0080; remove it, or write \"\\u0080\""},
    {WHOLE("sample_prompt: \364\220\200\200\n"), "1:16: byte 0xf4 is not UTF-8; save the file as UTF-8 text"},
    {PART("batch_size: big\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not 'big'"},
    {PART("batch_size: 0\n"), "1:13: 'batch_size' is 0, but must be from 1 to 65536"},
    {PART("batch_size: -1\n"), "1:13: 'batch_size' is -1, but must be from 1 to 65536"},
    {PART("batch_size: 1.5\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not '1.5'"},
    {PART("batch_size: 1e-4\n"), "1:13: 'batch_size' is 1e-4, but must be from 1 to 65536"},
    {PART("batch_size: 0x10\n"), "1:13: '0x10' is hexadecimal; write the number in decimal: 16"},
    {PART("batch_size: -0x10\n"), "1:13: '-0x10' is hexadecimal; write the number in decimal: -16"},
    {PART("batch_size: 0xfffffffffffffffff\n"), "1:13: 'batch_size' needs a whole number, not '0xfffffffffffffffff'"},
    {PART("batch_size: 010\n"),
     "1:13: '010' starts with 0, which YAML 1.1 reads as octal and YAML 1.2 as decimal; write 'batch_size' in "
     "decimal without the zero"},
    {PART("batch_size: 0o10\n"), "1:13: '0o10' is not decimal; write the number in decimal"},
    {PART("batch_size: 0b11\n"), "1:13: '0b11' is not decimal; write the number in decimal"},
    {PART("batch_size: 1_000\n"),
     "1:13: '1_000' has underscores, which not every YAML reader takes for a number; remove them"},
    {PART("batch_size: 1,000\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not '1,000'"},
    {PART("batch_size: 1:30\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not '1:30'"},
    {PART("batch_size: .inf\n"), "1:13: 'batch_size' needs a finite number, not '.inf'"},
    {PART("batch_size: no\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not 'no'"},
    {PART("batch_size: true\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not 'true'"},
    {PART("batch_size: \"8\"\n"), "1:13: 'batch_size' needs a whole number, not text; remove the quotes around 8"},
    {PART("batch_size: 'x'\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not the text \"x\""},
    {PART("batch_size:\n"), "1:12: 'batch_size' has no value; give it one, or remove the line for the default, 1"},
    {PART("batch_size: ~\n"), "1:13: 'batch_size' has no value; give it one, or remove the line for the default, 1"},
    {PART("batch_size: [8]\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not a list"},
    {PART("batch_size: {n: 8}\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not a mapping"},
    {PART("batch_size: 99999999999999999999\n"),
     "1:13: 'batch_size' is 99999999999999999999, but must be from 1 to 65536"},
    {PART("batch_size: 1e400\n"), "1:13: 'batch_size' is 1e400, but must be from 1 to 65536"},
    {PART("batch_size: auto\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not 'auto'"},
    {PART("batch_size: 8 rows\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not '8 rows'"},
    {PART("batch_size: +\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not '+'"},
    {PART("batch_size: .\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not '.'"},
    {PART("batch_size: |\n  8\n"), "1:13: 'batch_size' needs a whole number from 1 to 65536, not the text \"8\\n\""},
    {WHOLE("vocab_size:\nd_model: 64\nn_layers: 2\nn_seq: 32\n"),
     "1:12: 'vocab_size' has no value; give it one, from 2 to 16777216"},
    {WHOLE("vocab_size: auto\nd_model: 64\nn_layers: 2\nn_seq: 32\n"),
     "1:13: 'vocab_size' needs a whole number from 2 to 16777216, not 'auto'"},
    {PART("seed: -1\n"), "1:7: 'seed' is -1, but must be from 0 to 4294967295"},
    {PART("seed: 4294967296\n"), "1:7: 'seed' is 4294967296, but must be from 0 to 4294967295"},
    {PART("num_heads: none\n"), "1:12: 'num_heads' needs a whole number from 1 to 4096, or auto, not 'none'"},
    {PART("eos_token_id: -1\n"), "1:15: 'eos_token_id' is -1, but must be from 0 to 16777215, or null"},
    {PART("eos_token_id: none\n"), "1:15: 'eos_token_id' needs a whole number from 0 to 16777215, or null, not 'none'"},
    {PART("learning_rate: fast\n"), "1:16: 'learning_rate' needs a number from 0 to 10, not 'fast'"},
    {PART("learning_rate: -1e-4\n"), "1:16: 'learning_rate' is -1e-4, but must be from 0 to 10"},
    {PART("learning_rate: 1e-4x\n"), "1:16: 'learning_rate' needs a number from 0 to 10, not '1e-4x'"},
    {PART("learning_rate: 1e\n"), "1:16: 'learning_rate' needs a number from 0 to 10, not '1e'"},
    {PART("learning_rate: .nan\n"), "1:16: 'learning_rate' needs a finite number, not '.nan'"},
    {PART("learning_rate: \"1e-4\"\n"),
     "1:16: 'learning_rate' needs a number, not text; remove the quotes around 1e-4"},
    {PART("learning_rate: 0x1p-3\n"), "1:16: 'learning_rate' needs a number, not '0x1p-3'"},
    {PART("learning_rate: 11\n"), "1:16: 'learning_rate' is 11, but must be from 0 to 10"},
    {PART("learning_rate: 1e999\n"), "1:16: 'learning_rate' is 1e999, but must be from 0 to 10"},
    {PART("learning_rate: yes\n"), "1:16: 'learning_rate' needs a number from 0 to 10, not 'yes'"},
    {PART("adam_beta2: 1\n"), "1:13: 'adam_beta2' is 1, but must be from 0 to 0.999999"},
    {PART("min_lr_ratio: 5%\n"), "1:15: 'min_lr_ratio' needs a number from 0 to 1, not '5%'"},
    {PART("use_lap: 1\n"), "1:10: 'use_lap' must be true or false, not '1'"},
    {PART("use_lap: \"true\"\n"), "1:10: 'use_lap' must be true or false, not the text \"true\""},
    {PART("use_lap: tRUE\n"), "1:10: 'use_lap' must be true or false, not 'tRUE'"},
    {PART("use_lap: enabled\n"), "1:10: 'use_lap' must be true or false, not 'enabled'"},
    {PART("use_lap:\n"), "1:9: 'use_lap' has no value; give it one, or remove the line for the default, false"},
    {PART("use_lap: []\n"), "1:10: 'use_lap' must be true or false, not a list"},
    {PART("optimizer: adam\n"), "1:12: 'optimizer' must be adamw or adafactor8, not 'adam'; did you mean 'adamw'?"},
    {PART("optimizer: sgd\n"), "1:12: 'optimizer' must be adamw or adafactor8, not 'sgd'"},
    {PART("optimizer: no\n"), "1:12: 'optimizer' must be adamw or adafactor8, not 'no'"},
    {PART("optimizer:\n"), "1:11: 'optimizer' has no value; give it one, or remove the line for the default, adamw"},
    {PART("optimizer: AdamW\n"), "1:12: 'optimizer' must be adamw or adafactor8, not 'AdamW'; did you mean 'adamw'?"},
    {PART("ffn_activation: relu\n"), "1:17: 'ffn_activation' must be relu2 or gelu, not 'relu'; did you mean 'relu2'?"},
    {PART("local_score: [hyperbolic]\n"), "1:14: 'local_score' must be hyperbolic or euclidean, not a list"},
    {PART("gradient_precision: fp16\n"), "1:21: 'gradient_precision' must be auto, f32, int8 or bf16, not 'fp16'"},
    {PART("memory_budget: 8 GiB\n"),
     "1:16: 'memory_budget' needs a size such as 8GiB or 512MiB, or a number of bytes, not '8 GiB'"},
    {PART("memory_budget: -1\n"),
     "1:16: 'memory_budget' needs a size such as 8GiB or 512MiB, or a number of bytes, not '-1'"},
    {PART("memory_budget: 8.5GiB\n"),
     "1:16: 'memory_budget' needs a size such as 8GiB or 512MiB, or a number of bytes, not '8.5GiB'"},
    {PART("memory_budget: 99999999TiB\n"),
     "1:16: 'memory_budget' needs a size such as 8GiB or 512MiB, or a number of bytes, not '99999999TiB'"},
    {PART("memory_budget: 9000000TiB\n"),
     "1:16: 'memory_budget' is '9000000TiB', beyond any memory; write a size such as 8GiB"},
    {PART("host_budget: lots\n"),
     "1:14: 'host_budget' needs a size such as 8GiB or 512MiB, or a number of bytes, not 'lots'"},
    {PART("sample_prompt:\n"),
     "1:15: 'sample_prompt' has no value; give it one, or remove the line for the default, \"\""},
    {PART("sample_prompt: [a]\n"),
     "1:16: 'sample_prompt' needs text, not a list; put text with special characters in quotes"},
    {PART("sample_prompt: \"a\\0b\"\n"), "1:16: 'sample_prompt' contains a NUL character, which text here cannot hold"},
    {PART("tokenizer: {}\n"),
     "1:12: 'tokenizer' needs text, not a mapping; put text with special characters in quotes"},
    {PART("tokenizer: \"\"\n"), "1:12: 'tokenizer' is empty; write bytes, the path of a tokenizer, or null"},
    {WHOLE("vocab_size: 64\nd_model: 100\nn_layers: 2\nn_seq: 32\n"),
     "2:10: no head size of 128, 64 or 32 divides d_model 100; set num_heads, or make d_model a multiple of 32"},
    {WHOLE("vocab_size: 64\nd_model: 65\nn_layers: 2\nn_seq: 32\nnum_heads: 5\n"),
     "2:10: d_model 65 is odd, but rotary positions need heads of an even size; make it even"},
    {PART("num_heads: 3\n"), "1:12: d_model 64 is not divisible by num_heads 3; num_heads: 2 would do"},
    {PART("num_heads: 64\n"),
     "1:12: heads of the odd size 1 (d_model 64 / num_heads 64) cannot hold rotary positions; num_heads: 32 would "
     "do"},
    {PART("num_heads: 4096\n"), "1:12: d_model 64 is not divisible by num_heads 4096; num_heads: 32 would do"},
    {PART("eos_token_id: 64\n"),
     "1:15: eos_token_id 64 is outside the vocabulary of 64 ids (0 to 63); raise vocab_size to 65, or choose "
     "another id"},
    {PART("tokenizer: bytes\n"),
     "1:12: the byte tokenizer has ids 0 to 255, but vocab_size is 64; raise vocab_size to 256, or to 257 with an "
     "end-of-text id"},
    {PART("use_htt_embedding: true\nhtt_rank: 4096\n"),
     "2:11: htt_rank 4096 is more than the full rank 64 of this embedding; set htt_rank to at most that, or "
     "use_htt_embedding: false"},
    {PART("use_htt_embedding: true\nhtt_rank: 0\n"), "2:11: 'htt_rank' is 0, but must be from 1 to 65536"},
    {PART("use_htt_embedding: yes\n"),
     "1:20: htt_rank 128 is more than the full rank 64 of this embedding; set htt_rank to at most that, or "
     "use_htt_embedding: false"},
    {PART("gradient_precision: int8\nuse_bitnet: no\n"),
     "1:21: gradient_precision int8 needs use_bitnet: true, whose matrices it multiplies; write "
     "gradient_precision: auto"},
    {PART("gradient_precision: bf16\n"),
     "1:21: gradient_precision bf16 needs use_mixed_precision: true; without it everything is f32, write "
     "gradient_precision: f32"},
    {PART("max_steps: 6\nwarmup_steps: 7\n"),
     "2:15: warmup_steps 7 is more than max_steps 6; lower it to at most max_steps, or write warmup_steps: auto"},
    {WHOLE("batch_size: 65536\nn_seq: 65536\nvocab_size: 64\nd_model: 64\nn_layers: 1\n"),
     "1:13: batch_size 65536 times n_seq 65536 is more than 2147483647 tokens in a micro-batch; lower batch_size "
     "and raise gradient_accumulation_steps"},
    {WHOLE("vocab_size: 64\n"),
     "1:1: the key 'd_model' is missing; add 'd_model: ...' (from 2 to 65536)\n1:1: the key 'n_layers' is missing; "
     "add 'n_layers: ...' (from 1 to 1024)\n1:1: the key 'n_seq' is missing; add 'n_seq: ...' (from 1 to 1048576)"},
    {WHOLE("vocab_size: 64\nd_modell: 64\nn_layer: 2\n"),
     "2:1: unknown key 'd_modell'; did you mean 'd_model'?\n3:1: unknown key 'n_layer'; did you mean "
     "'n_layers'?\n1:1: the key 'n_seq' is missing; add 'n_seq: ...' (from 1 to 1048576)"},
};

static void append_messages(const MuseDiag *diag, const char *file, MuseStr *out) {
  for (size_t i = 0; muse_diag_message(diag, i); i++) {
    MuseLoc loc = muse_diag_loc(diag, i);
    cr_assert_str_eq(loc.file, file);
    muse_str_appendf(out, "%s%d:%d: %s%s", i ? "\n" : "", loc.line, loc.col,
                     muse_diag_severity(diag, i) == MUSE_NOTE ? "note: " : "", muse_diag_message(diag, i));
  }
}

Test(config_errors, each_bad_text_has_its_sentence) {
  size_t n = sizeof bad_texts / sizeof *bad_texts;
  cr_assert_geq(n, 60);
  for (size_t i = 0; i < n; i++) {
    MuseArena *arena = muse_arena_create();
    MuseDiag *diag = muse_diag_create();
    MuseConfig config;
    MuseStr messages = {0};
    MuseStatus status =
        muse_config_parse_text("c.yaml", bad_texts[i].text, bad_texts[i].length, NULL, arena, &config, diag);
    append_messages(diag, "c.yaml", &messages);
    cr_expect_eq(status, MUSE_ERR_INPUT, "%s", bad_texts[i].text);
    cr_expect_str_eq(muse_str_text(&messages), bad_texts[i].expected, "text:\n%s\ngot:\n%s\nwant:\n%s",
                     bad_texts[i].text, muse_str_text(&messages), bad_texts[i].expected);
    muse_str_free(&messages);
    muse_diag_destroy(diag);
    muse_arena_destroy(arena);
  }
}

typedef struct BadOverride {
  const char *text, *expected;
} BadOverride;

static const BadOverride bad_overrides[] = {
    {"batch_size", "1:1: 'batch_size' is not an override; write --set key=value"},
    {"=1", "1:1: '=1' is not an override; write --set key=value"},
    {"", "1:1: '' is not an override; write --set key=value"},
    {"batch_sise=1", "1:1: unknown key 'batch_sise'; did you mean 'batch_size'?"},
    {"batch_size=x", "1:12: 'batch_size' needs a whole number from 1 to 65536, not 'x'"},
    {"batch_size=", "1:12: 'batch_size' has no value; give it one, or remove the line for the default, 1"},
    {"batch_size=\"8\"", "1:12: 'batch_size' needs a whole number, not text; remove the quotes around 8"},
    {"sample_prompt=a: b",
     "1:15: 'sample_prompt' needs text, not a mapping; put text with special characters in quotes"},
    {"sample_prompt=\"a", "1:15: this quote is never closed; add the closing quote"},
    {"sample_prompt=&x a", "1:15: anchors are not used in configs; remove '&x'"},
    {"sample_prompt=a\nseed: 1", "1:15: the value of an override is one line of at most 1 MiB"},
    {"sample_prompt=\377", "1:15: byte 0xff is not UTF-8; save the file as UTF-8 text"},
    {"eos_token_id=64",
     "1:14: eos_token_id 64 is outside the vocabulary of 64 ids (0 to 63); raise vocab_size to 65, or "
     "choose another id"},
};

Test(config_errors, each_bad_override_has_its_sentence) {
  for (size_t i = 0; i < sizeof bad_overrides / sizeof *bad_overrides; i++) {
    MuseArena *arena = muse_arena_create();
    MuseDiag *diag = muse_diag_create();
    MuseConfig config;
    MuseStr messages = {0};
    const char *texts[] = {bad_overrides[i].text};
    MuseTextList sets = {texts, 1, 1};
    cr_expect_eq(muse_config_parse_text("c.yaml", NEEDED, strlen(NEEDED), &sets, arena, &config, diag), MUSE_ERR_INPUT);
    append_messages(diag, "--set", &messages);
    cr_expect_str_eq(muse_str_text(&messages), bad_overrides[i].expected, "override: %s\ngot: %s",
                     bad_overrides[i].text, muse_str_text(&messages));
    muse_str_free(&messages);
    muse_diag_destroy(diag);
    muse_arena_destroy(arena);
  }
}

// What the terminal shows: place, sentence, line and caret.
Test(config_errors, a_message_shows_its_line_and_a_caret) {
  static const char text[] = "vocab_size: 64\nd_modle: 64\nn_layers: 2\nn_seq: many\n";
  MuseArena *arena = muse_arena_create();
  MuseDiag *diag = muse_diag_create();
  MuseConfig config;
  cr_assert_eq(muse_config_parse_text("dir/c.yaml", text, strlen(text), NULL, arena, &config, diag), MUSE_ERR_INPUT);
  char *shown = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&shown, &length);
  muse_diag_print(diag, out);
  fclose(out);
  cr_expect_str_eq(shown, "dir/c.yaml:2:1: error: unknown key 'd_modle'; did you mean 'd_model'?\n"
                          "  d_modle: 64\n"
                          "  ^\n"
                          "dir/c.yaml:4:8: error: 'n_seq' needs a whole number from 1 to 1048576, not 'many'\n"
                          "  n_seq: many\n"
                          "         ^\n");
  free(shown);
  muse_diag_destroy(diag);
  muse_arena_destroy(arena);
}
