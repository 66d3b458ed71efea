#!/usr/bin/env python3
"""muse-data import: files of one's own, in many forms and encodings, as documents that tokenize takes."""
import gzip
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time

import programs
from programs import SOURCE, program, run

PARQUET = os.path.join(SOURCE, 'tests', 'fuzz', 'corpus', 'parquet')


class Import(programs.Scratch):
    def put(self, path, data):
        path = self.path('in', path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            f.write(data if isinstance(data, bytes) else data.encode())

    def make(self, *args, status=0, **kwargs):
        return run('muse-data', 'import', self.path('in'), '-o', self.path('out'), *args, status=status, timeout=120, **kwargs)

    def texts(self, side='train'):
        found, folder = [], self.path('out', side)
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding='utf-8') as f:
                found += [json.loads(line)['text'] for line in f]
        return found

    def test_kinds_of_files(self):
        self.put('a.txt', 'first\n')
        self.put('b.md', '# second\n')
        self.put('c/d.txt.gz', gzip.compress('dritter \u00e4'.encode()))
        raw = 'vierter'.encode()
        self.put('c/e.txt.zst', b'\x28\xb5\x2f\xfd\x20' + bytes([len(raw)]) + (len(raw) << 3 | 1).to_bytes(3, 'little') + raw)
        self.put('f.jsonl', '{"text": "five \\u65e5\\u672c"}\n\n{"text": ""}\nno JSON\n{"text": "six \\ud83c\\udf33", "n": 1}\n')
        self.put('g.jsonl.gz', gzip.compress(b'\xef\xbb\xbf{"text": "seven"}'))
        shutil.copy(os.path.join(PARQUET, 'nested.parquet'), self.path('in', 'h.parquet'))
        self.put('image.png', b'\x89PNG')
        self.put('i.txt', b'\xff\xfe' + 'utf-16 \u65e5'.encode('utf-16-le'))
        self.put('j.txt', b'\xef\xbb\xbfwith a mark')
        self.put('k.txt', b'caf\xe9')
        self.put('l.txt', b'nul \0')
        self.put('m.txt', 'first\n')
        self.put('n.txt', '')
        self.put('o.txt.gz', gzip.compress(b'x' * 10000)[:-20])
        result = json.loads(self.make('--validation', '0', '--json').stdout)
        self.assertEqual(self.texts(), ['first\n', '# second\n', 'dritter \u00e4', 'vierter', 'five \u65e5\u672c', 'six \U0001f333', 'seven',
                                        'a', 'b', 'utf-16 \u65e5', 'with a mark'])
        self.assertEqual((result['train'], result['duplicates'], result['other_names']), (11, 1, 1))
        self.assertEqual(result['left_out'], {'no text': 2, 'not UTF-8 text': 2, 'too large': 0, 'no JSON object': 1, 'damaged': 1,
                                              'unreadable': 0})
        # What tokenize makes of it: the same documents.
        run('muse-data', 'tokenize', self.path('out', 'train'), '-o', self.path('set'))
        info = json.loads(run('muse-data', 'inspect', self.path('set'), '--json').stdout)
        self.assertEqual((info['documents'], info['tokens']), (11, sum(len(t.encode()) for t in self.texts())))
        with open(self.path('set.bin'), 'rb') as f:
            ids = f.read()
        self.assertEqual(bytes(struct.unpack(f'<{len(ids) // 2}H', ids)), ''.join(self.texts()).encode())
        # Named files count whatever their names are; in folders --any-name says so.
        self.make('--validation', '0', '--force', '--any-name', '--keep-duplicates')
        self.assertEqual(self.texts().count('first\n'), 2)
        run('muse-data', 'import', self.path('in', 'k.txt'), '-o', self.path('one'), status=2)
        self.assertFalse(os.path.exists(self.path('one')))

    def test_too_few_open_files(self):
        """No file and no folder is left out for that."""
        for i in range(40):
            self.put(f'{i % 4}/{i}.txt', f'text {i}')
        self.put('5.jsonl', '{"text": "five"}')
        shutil.copy(os.path.join(PARQUET, 'nested.parquet'), self.path('in', '6.parquet'))
        self.make('--validation', '0')
        whole = self.texts()
        shutil.rmtree(self.path('out'))
        stopped = 0
        for limit in range(4, 10):
            done = self.make('--validation', '0', status=None,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
            if done.returncode == 0:
                self.assertEqual(self.texts(), whole)
                shutil.rmtree(self.path('out'))
                continue
            stopped += 1
            self.assertEqual((done.returncode, done.stdout), (1, ''), done.stderr)
            self.one_error(done, ["'" + self.dir, 'Too many open files; raise the limit of open files (ulimit -n)'])
            self.assertEqual(os.listdir(self.dir), ['in'])
        self.assertIn(stopped, (1, 2, 3))

    def test_japanese(self):
        text = '\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3002\u30ab\u30bf\u30ab\u30ca\u3068\\ ~\n' * 3000
        for name, encoding in [('sjis', 'cp932'), ('eucjp', 'euc_jp'), ('jis', 'iso2022_jp')]:
            shutil.rmtree(self.path('in'), ignore_errors=True)
            self.put('a.txt', text.encode(encoding))
            self.put('b.txt', 'UTF-8 bleibt UTF-8: \u00e4\u00f6\u00fc')
            self.make('--validation', '0', '--force', '--encoding',
                      {'sjis': 'Shift_JIS', 'eucjp': 'euc-jp', 'jis': 'ISO-2022-JP'}[name])
            self.assertEqual(self.texts(), [text, 'UTF-8 bleibt UTF-8: \u00e4\u00f6\u00fc'], name)
        self.put('a.txt', '\uff21\uff22\uff23 \uff76\uff9e\uff77\uff9e \u2460 \ufb01 e\u0301\n')
        self.make('--validation', '0', '--force', '--nfkc')
        self.assertEqual(self.texts()[0], 'ABC \u30ac\u30ae 1 fi \u00e9\n')

    def test_the_held_out_share(self):
        self.put('a.jsonl', ''.join(json.dumps({'text': f'document {i}'}) + '\n' for i in range(5000)))
        self.make('--validation', '0.1')
        held = self.texts('validation')
        self.assertTrue(400 < len(held) < 600, len(held))
        self.assertEqual(len(self.texts()) + len(held), 5000)
        before = {}
        for folder, _, files in os.walk(self.path('out')):
            for name in files:
                with open(os.path.join(folder, name), 'rb') as f:
                    before[os.path.join(folder, name)] = f.read()
        self.make('--validation', '0.1', '--force')  # the same bytes
        for name, content in before.items():
            with open(name, 'rb') as f:
                self.assertEqual(f.read(), content)
        # A document stays on its side, whatever else comes.
        self.put('0.jsonl', ''.join(json.dumps({'text': f'another {i}'}) + '\n' for i in range(1000)))
        self.make('--validation', '0.1', '--force')
        self.assertEqual([t for t in self.texts('validation') if t.startswith('document')], held)

    def test_records(self):
        self.put('a.jsonl', '{"q": "Why {not}?", "a": "So."}\n{"q": "Who?", "a": null}\n')
        self.make('--validation', '0', '--template', 'Q: {q}[\nA: {a}] {{x}} [[y]]')
        self.assertEqual(self.texts(), ['Q: Why {not}?\nA: So. {x} [y]', 'Q: Who? {x} [y]'])
        self.make('--validation', '0', '--column', 'q', '--force')
        self.assertEqual(self.texts(), ['Why {not}?', 'Who?'])

    def test_many_documents_and_threads(self):
        self.put('a.jsonl', ''.join(json.dumps({'text': f'document {i} ' + '\u00e4' * (i % 300)}) + '\n' for i in range(20000)))
        self.make('--validation', '0')
        sets = []
        for threads in 1, 5:
            run('muse-data', 'tokenize', self.path('out'), '-o', self.path('set'), '-j', threads)
            with open(self.path('set.idx'), 'rb') as idx, open(self.path('set.bin'), 'rb') as ids:
                sets.append((idx.read(), ids.read()))
        self.assertEqual(sets[0], sets[1])
        self.assertEqual(struct.unpack_from('<Q', sets[0][0], 24)[0], 20000)
        large = json.dumps({'text': 'y' * (3 << 20)}) + '\n'  # longer than the reader's pieces and a worker's slot
        self.put('a.jsonl', large + '{"text": "end"}\n')
        self.make('--validation', '0', '--force')
        self.assertEqual([len(t) for t in self.texts()], [3 << 20, 3])
        self.make('--validation', '0', '--force', '--max-document', '1MiB')
        self.assertEqual(self.texts(), ['end'])

    def test_nothing_half_written(self):
        self.put('a.txt', 'kept')
        self.make('--validation', '0')
        self.put('b.jsonl', ''.join(json.dumps({'text': f'{i} ' * 300}) + '\n' for i in range(3000)))
        done = subprocess.run([program('muse-data'), 'import', self.path('in'), '-o', self.path('out'), '--force'], capture_output=True,
                              text=True, timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('cannot write', done.stderr)
        self.assertEqual((self.texts(), sorted(os.listdir(self.dir))), (['kept'], ['in', 'out']))
        self.put('c.txt.gz', gzip.compress(b'z' * (1 << 28), 1) * 8)
        child = subprocess.Popen([program('muse-data'), 'import', *[self.path('in', 'b.jsonl')] * 300, '-o', self.path('out'), '--force',
                                  '--keep-duplicates'], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not any('.tmp' in name for name in os.listdir(self.dir)):
            time.sleep(0.01)
        time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        _, message = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 75, message)
        self.assertIn('is as it was before', message)
        self.assertEqual((self.texts(), sorted(os.listdir(self.dir))), (['kept'], ['in', 'out']))

    def test_a_killed_call_is_cleaned_up_after(self):
        """SIGKILL leaves a folder beside the output; the next import of the same set removes it, and nothing else."""
        self.put('a.txt', 'kept')
        self.put('b.jsonl', ''.join(json.dumps({'text': f'{i} ' * 300}) + '\n' for i in range(3000)))
        child = subprocess.Popen([program('muse-data'), 'import', *[self.path('in', 'b.jsonl')] * 300, '-o', self.path('out'),
                                  '--keep-duplicates'], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not any('.tmp' in name for name in os.listdir(self.dir)):
            time.sleep(0.01)
        # While it runs, another call for the same set leaves its folder alone.
        self.make('--validation', '0', '--any-name')
        self.assertEqual([name for name in os.listdir(self.dir) if '.tmp' in name], [f'.out.{child.pid}.tmp'])
        child.kill()
        child.communicate(timeout=30)
        mine = ['out.1.tmp', '.other.999999999.tmp', '.out.x.tmp', '.out.999999999.txt']  # names of others
        for name in mine:
            os.mkdir(self.path(name))
        self.make('--validation', '0', '--force')
        self.assertEqual(sorted(os.listdir(self.dir)), sorted(['in', 'out'] + mine))
        # Killed between its two renames: what was there comes back, and is not replaced without --force.
        os.remove(self.path('in', 'b.jsonl'))
        self.make('--validation', '0', '--force')
        os.rename(self.path('out'), self.path('.out.999999999.old'))
        done = self.make('--validation', '0', status=2)
        self.assertIn('before an import that was killed', done.stderr)
        self.assertIn('is there already', done.stderr)
        self.assertEqual(self.texts(), ['kept'])
        # Killed behind them: what was replaced goes.
        os.mkdir(self.path('.out.999999999.old'))
        run('muse-data', 'import', 'in', '-o', 'out//', '--validation', '0', '--force', cwd=self.dir)
        self.assertEqual((self.texts(), sorted(os.listdir(self.dir))), (['kept'], sorted(['in', 'out'] + mine)))

    def test_wrong_things(self):
        self.put('a.txt', 'text')
        self.put('b.jsonl', '{"content": "text"}\n')
        with open(os.path.join(PARQUET, 'snappy.parquet'), 'rb') as f:
            good = f.read()
        self.put('bad/cut.parquet', good[:900])
        with open(os.path.join(PARQUET, 'checksum.parquet'), 'rb') as f:
            checked = f.read()
        self.put('bad/flipped.parquet', checked[:600] + bytes([checked[600] ^ 0x55]) + checked[601:])
        self.put('none.png', b'x')
        os.mkdir(self.path('empty'))
        source, out = self.path('in', 'a.txt'), ['-o', self.path('out')]
        for arguments, says in [
            (out, 'name at least one folder'), ([source], 'say with -o DIR'), ([source, *out, '--validation', '1'], 'below 1'),
            ([source, *out, '--encoding', 'klingon'], "no encoding 'klingon'"), ([source, *out, '--encoding', '//IGNORE'], 'no encoding'),
            ([source, *out, '--template', '{a'], 'never closed'), ([source, *out, '--template', 'a}'], "'}' without '{'"),
            ([source, *out, '--template', 'a'], 'names no column'), ([source, *out, '--max-document', '2GiB'], 'up to 1GiB'),
            ([self.path('absent'), *out], 'cannot read'), ([self.path('empty'), *out], 'no documents were found'),
            ([self.path('in', 'b.jsonl'), *out], "there is no text 'text'; its texts are: content"),
            ([self.path('in', 'bad', 'cut.parquet'), *out], 'no sound Parquet file'),
            ([self.path('in', 'bad', 'flipped.parquet'), *out], 'checksum is wrong'),
            ([os.path.join(PARQUET, 'brotli.parquet'), *out], 'packed with Brotli'),
            ([os.path.join(PARQUET, 'nested.parquet'), *out, '-c', 'talk'], "no column 'talk'; its columns of text are: text"),
            ([os.path.join(PARQUET, 'nested.parquet'), *out, '-c', 'n'], 'holds no text'),
            ([source, '-o', '/'], "a folder to be made, not '/'"),
            ([source, '-o', self.path('in')], 'is there already'), ([source, '-o', source, '--force'], 'it is no folder'),
        ]:
            with self.subTest(arguments):
                done = run('muse-data', 'import', *arguments, status=2)
                errors = [line for line in done.stderr.splitlines() if 'error: ' in line]
                self.assertEqual(len(errors), 1, done.stderr)
                self.assertIn(says, errors[0])
                self.assertEqual(sorted(os.listdir(self.dir)), ['empty', 'in'])


if __name__ == '__main__':
    programs.main()
