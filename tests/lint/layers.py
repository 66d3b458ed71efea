#!/usr/bin/env python3
"""Holds the walls between the folders, as docs and build files describe them.

ir/base < ir < ops < passes < compiler < corpus < runtime: a file includes only from its own folder and those to the left of it.
tests/ and bench/ include anything, and nothing includes them. Includes are written from the root. Headers of foreign
libraries stand only where FOREIGN allows them, CUDA's nowhere. No source file is longer than MAX_LINES, no line of C than
MAX_COLUMNS.

Usage: layers.py [ROOT]; prints one line a breach and exits 1 if there is any.
"""
import fnmatch
import os
import re
import sys

LAYERS = ['ir/base', 'ir', 'ops', 'passes', 'compiler', 'corpus', 'runtime']
FREE = ['tests', 'bench']
MAX_LINES = 900
MAX_COLUMNS = 120

# The list of ops is pure data, which the layer below expands.
EXCEPTIONS = {('ir/op.c', 'ops/ops.def'), ('ir/op.h', 'ops/ops.def'),
              # The table of functions of the loadable CPU module, which holds emitters and JIT.
              ('runtime/cpu_jit.c', 'compiler/emit_llvm.h'), ('runtime/cpu_jit.c', 'compiler/emit_llvm_target.h')}

# What runtime/ may see of compiler/: the plan, the emitters' interface, kernel information, data recipes.
RUNTIME_MAY_SEE = {'compiler/plan.h', 'compiler/emit.h', 'compiler/emit_cuda.h', 'compiler/kernel_info.h',
                   'compiler/config_recipe.h', 'compiler/cubin.h', 'compiler/cuda_target.h', 'compiler/nvrtc.h'}

# What corpus/ may see of the layers to its left, beside ir/base.
CORPUS_MAY_SEE = {'compiler/config_yaml.h'}

# The LLVM half is a loadable module of its own with files in both folders, and these see each other.
MODULE = ['compiler/emit_llvm*', 'runtime/cpu_jit*']

# Foreign header (pattern) -> the files (patterns) that may include it; tests/ and bench/ may always.
FOREIGN = {
    'yaml.h': ['compiler/config*.c'],
    'llvm-c/*': MODULE,
    'llvm/Config/llvm-config.h': MODULE,  # plain C: the version
    'xxhash.h': ['ir/base/hash.c'],
    'jansson.h': ['runtime/*', 'corpus/*'],
    'pcre2.h': ['runtime/tokenizer_*'],
    'utf8proc.h': ['runtime/*', 'corpus/encoding.c'],
    'sentencepiece_*.h': ['runtime/tokenizer_sentencepiece_shim.cc'],
    'zlib.h': ['corpus/*'],
    'zstd.h': ['corpus/*'],
    'zstd_errors.h': ['corpus/*'],
    'curl/curl.h': ['corpus/http*'],
    'snappy-c.h': ['corpus/parquet_codec.c'],
}
FORBIDDEN = ['cuda*.h', 'nvrtc*.h', 'nccl*.h', 'cublas*.h', 'cudnn*.h', 'nvml.h', 'cuda/*', 'criterion/*']

# C17, POSIX, Linux and the vector intrinsics.
SYSTEM = set('''
aio.h arm_neon.h assert.h complex.h cpuid.h ctype.h dirent.h dlfcn.h elf.h endian.h errno.h fcntl.h fenv.h float.h
fnmatch.h ftw.h getopt.h glob.h iconv.h immintrin.h inttypes.h iso646.h langinfo.h libgen.h limits.h link.h locale.h malloc.h
math.h poll.h pthread.h pwd.h regex.h sched.h semaphore.h setjmp.h signal.h spawn.h stdalign.h stdarg.h stdatomic.h
stdbool.h stddef.h stdint.h stdio.h stdlib.h stdnoreturn.h string.h strings.h tgmath.h threads.h time.h uchar.h
unistd.h wchar.h wctype.h x86intrin.h
'''.split())
SYSTEM_FOLDERS = ('sys/', 'linux/', 'asm/')

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCES = ('.c', '.h', '.def')
COUNTED = SOURCES + ('.py', '.sh')


def layer_of(path):
    for layer in LAYERS:  # ir/base comes before ir
        if path.startswith(layer + '/'):
            return layer
    return None


def is_free(path):
    return path.split('/')[0] in FREE


def matches(name, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def breach_of_own(root, path, name):
    """What is wrong with including our own file `name`, or None."""
    if '/' not in name or name.startswith(('.', '/')) or '/../' in name:
        return 'is not written from the root of the repository'
    if not os.path.exists(os.path.join(root, name)):
        return 'does not exist'
    if name.endswith('.c'):
        return 'is a source file, not a header'
    if is_free(path):
        return None
    if is_free(name):
        return 'belongs to the tests or benchmarks'
    if (path, name) in EXCEPTIONS:
        return None
    own, other = layer_of(path), layer_of(name)
    if own is None or other is None:
        return 'lies outside the layers'
    if LAYERS.index(other) > LAYERS.index(own):
        return f'lies to the right: {own} includes only {", ".join(LAYERS[:LAYERS.index(own) + 1])}'
    if matches(path, MODULE) and matches(name, MODULE):
        return None
    if own == 'runtime' and other == 'compiler' and name not in RUNTIME_MAY_SEE:
        return f'is hidden from runtime, which sees of compiler only {", ".join(sorted(RUNTIME_MAY_SEE))}'
    if own == 'corpus' and other not in ('ir/base', 'corpus') and name not in CORPUS_MAY_SEE:
        return f'is hidden from corpus, which sees beside ir/base only {", ".join(sorted(CORPUS_MAY_SEE))}'
    return None


def breach_of_foreign(path, name):
    if matches(name, FORBIDDEN) and not (is_free(path) and name.startswith('criterion/')):
        return 'is allowed nowhere' if not name.startswith('criterion/') else 'belongs to the tests'
    if is_free(path) or name in SYSTEM or name.startswith(SYSTEM_FOLDERS):
        return None
    for pattern, places in FOREIGN.items():
        if fnmatch.fnmatch(name, pattern):
            return None if matches(path, places) else f'is allowed only in {", ".join(places)}'
    return 'is no known system header (a new library is added to FOREIGN in tests/lint/layers.py)'


def check_file(root, path):
    """Yields a sentence for each breach in the file."""
    with open(os.path.join(root, path), encoding='utf-8', errors='replace') as f:
        lines = f.read().splitlines()
    if len(lines) > MAX_LINES:
        yield f'{path}:{MAX_LINES + 1}: the file has {len(lines)} lines, {MAX_LINES} are allowed; split it'
    if not path.endswith(SOURCES):
        return
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS and not path.endswith('.def'):  # tables may be wide
            yield f'{path}:{number}: the line has {len(line)} columns, {MAX_COLUMNS} are allowed'
        match = INCLUDE.match(line)
        if match:
            reason = breach_of_own(root, path, match[2]) if match[1] == '"' else breach_of_foreign(path, match[2])
            if reason:
                yield f'{path}:{number}: {match[2]} {reason}'


def find_sources(root):
    for top in sorted({layer.split('/')[0] for layer in LAYERS} | set(FREE) | {'scripts'}):
        for folder, _, files in os.walk(os.path.join(root, top)):
            for name in sorted(files):
                if name.endswith(COUNTED):
                    yield os.path.relpath(os.path.join(folder, name), root)


def main():
    root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), '../..'))
    n_files, breaches = 0, []
    for path in find_sources(root):
        n_files += 1
        breaches += check_file(root, path)
    for breach in breaches:
        print(breach)
    if n_files == 0:
        print(f'no source file below {root}')
        return 1
    print(f'{n_files} files, {len(breaches)} breaches')
    return 1 if breaches else 0


if __name__ == '__main__':
    sys.exit(main())
