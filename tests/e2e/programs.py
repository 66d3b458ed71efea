"""Shared by the end-to-end tests: running the programs, safetensors files, comparing. Standard library only."""
import array
import json
import math
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ.get('MUSE_BUILD', 'build')
SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))

_CODES = {'F64': 'd', 'F32': 'f', 'I64': 'q', 'I32': 'i', 'I16': 'h', 'I8': 'b', 'U8': 'B'}

# The smallest byte-level hybrid.
TINY_HYBRID = '''vocab_size: 257
tokenizer: bytes
eos_token_id: 256
d_model: 32
n_layers: 1
num_heads: 2
n_seq: 32
local_window: 8
batch_size: 2
use_bitnet: true
use_mixed_precision: false
'''

# A byte-level hybrid of two layers, to which a test adds how it is trained.
SMALL_HYBRID = '''vocab_size: 257
tokenizer: bytes
eos_token_id: 256
d_model: 64
n_layers: 2
num_heads: 2
n_seq: 64
local_window: 16
use_bitnet: true
use_birman_schwinger: true
use_hybrid_attention: true
use_mixed_precision: false
'''


# gcc 12's LeakSanitizer crashes by itself ("Tracer caught signal 11") at the end of about one program in two hundred;
# the exit code then says nothing about the program, which is run once more.
_LEAK_CHECK_CRASHED = 'LeakSanitizer has encountered a fatal error'


def program(name):
    return os.path.join(os.path.abspath(BUILD), name)


def run(name, *args, status=0, **kwargs):
    """Runs a program and holds its exit code against `status` (None: any). Returns the finished process."""
    command = [program(name), *map(str, args)]
    made = [a for a in command if os.path.isabs(a) and not os.path.exists(a)]
    done = subprocess.run(command, capture_output=True, text=True, errors='replace', **kwargs)
    if _LEAK_CHECK_CRASHED in done.stderr:
        for path in made:  # a run that is there already would be refused
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.remove(path)
        done = subprocess.run(command, capture_output=True, text=True, errors='replace', **kwargs)
    if status is not None and done.returncode != status:
        raise AssertionError(f'{name} {" ".join(command[1:])}: exit code {done.returncode}, not {status}\n'
                             f'{done.stdout}\n{done.stderr}')
    return done


def fork_on_terminal():
    """pty.fork; where no terminals are to be had, because no devpts is mounted, the test is skipped."""
    try:
        return pty.fork()
    except OSError as error:
        if os.path.exists('/dev/pts/ptmx'):
            raise
        raise unittest.SkipTest(f'no devpts is mounted: {error}') from error


class Tensor:
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, list(shape), data


def load(path):
    """All tensors of a safetensors file."""
    with open(path, 'rb') as f:
        content = f.read()
    (n,) = struct.unpack('<Q', content[:8])
    header, body, tensors = json.loads(content[8:8 + n]), memoryview(content)[8 + n:], {}
    for name, entry in header.items():
        if name == '__metadata__':
            continue
        data = array.array(_CODES[entry['dtype']])
        data.frombytes(body[entry['data_offsets'][0]:entry['data_offsets'][1]])
        tensors[name] = Tensor(entry['dtype'], entry['shape'], data)
    return tensors


def save(path, tensors):
    header, body = {}, b''
    for name, t in tensors.items():
        piece = t.data.tobytes()
        header[name] = {'dtype': t.dtype, 'shape': t.shape, 'data_offsets': [len(body), len(body) + len(piece)]}
        body += piece
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + body)


def tokens(path, batches):
    """Writes nested lists [steps][B][T+1] as the tensor `tokens`."""
    flat = array.array('i', (x for step in batches for row in step for x in row))
    save(path, {'tokens': Tensor('I32', [len(batches), len(batches[0]), len(batches[0][0])], flat)})


def plan_int(path, name):
    """A whole number among the attributes of a plan."""
    with open(path, encoding='utf-8') as f:
        return int(re.search(rf'\b{name} = (\d+)', f.read()).group(1))


def relative_error(got, want):
    assert len(got) == len(want), f'{len(got)} elements, not {len(want)}'
    off = math.sqrt(sum((a - b) ** 2 for a, b in zip(got, want)))
    norm = math.sqrt(sum(b * b for b in want))
    return off / norm if norm > 0 else off


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


class Scratch(unittest.TestCase):
    """A folder of its own for each test; kernels are cached across tests of a run."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='muse-e2e-')
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def config(self, text, name='model.yaml'):
        with open(self.path(name), 'w', encoding='utf-8') as f:
            f.write(text)
        return self.path(name)

    def plan(self, text, *sets, name='model.plan'):
        args = [x for s in sets for x in ('--set', s)]
        run('musec', self.config(text, name + '.yaml'), *args, '-o', self.path(name))
        return self.path(name)

    def one_error(self, done, says):
        """One error and no more, with the words that matter (a text, or several)."""
        errors = [line for line in done.stderr.splitlines() if 'error: ' in line]
        self.assertEqual(len(errors), 1, done.stderr)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, errors[0])
        return done

    def refused(self, name, *args, says, status=2, **kwargs):
        return self.one_error(run(name, *args, status=status, **kwargs), says)


def main(names=()):
    """Like unittest.main, but skips are named on stderr and an empty run fails. Names: of tests, otherwise all run."""
    loader, module = unittest.defaultTestLoader, sys.modules['__main__']
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if result.testsRun and len(result.skipped) == result.testsRun:
        sys.exit(77)  # meson: SKIP
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
