#!/usr/bin/env python3
"""muse-data as a user runs it. Usage: test_muse_data.py PATH_OF_MUSE_DATA"""
import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

MUSE_DATA = os.path.abspath(sys.argv.pop(1))


def run(*arguments, expect=0):
    done = subprocess.run([MUSE_DATA, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, f'exit code {done.returncode}, not {expect}: {done.stderr}'
    return done


def read(name):
    with open(name, 'rb') as f:
        return f.read()


def documents(name):
    """The documents of a version 2 token set, as lists of ids, read independently of MUSE."""
    idx, tokens = read(name + '.idx'), read(name + '.bin')
    magic, version, width, vocabulary, _, n_documents, n_tokens = struct.unpack_from('<4sIIIQQQ', idx)
    assert (magic, version, width, vocabulary) == (b'MUSE', 2, 2, 257) and idx[40:72].rstrip(b'\0') == b'bytes'
    ids = struct.unpack(f'<{n_tokens}H', tokens)
    pairs = [struct.unpack_from('<QQ', idx, 72 + 16 * i) for i in range(n_documents)]
    assert len(idx) == 72 + 16 * n_documents
    return [bytes(ids[first:first + length]) for first, length in pairs]


class MuseData(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        os.chdir(self.folder.name)
        os.makedirs('text/b')
        self.put('text/z.txt', b'last')
        self.put('text/b/one.md', 'h\u00e9llo'.encode())
        self.put('text/b/two.1.gz', gzip.compress(b'.TH page\n' * 100))

    def tearDown(self):
        os.chdir('/')
        self.folder.cleanup()

    def put(self, path, data):
        with open(path, 'wb') as f:
            f.write(data)

    def test_what_goes_in_and_in_which_order(self):
        self.put('text/a.txt', b'last')               # equals z.txt, and comes first
        self.put('text/binary', b'ab\0cd')
        self.put('text/latin', b'caf\xe9 au lait')
        self.put('text/cut', b'end \xe2\x82')
        self.put('text/empty', b'')
        self.put('text/.hidden', b'secret')
        self.put('text/broken.gz', gzip.compress(b'x' * 1000)[:-12])
        os.symlink('z.txt', 'text/link')
        os.symlink('.', 'text/loop')
        os.mkfifo('text/pipe')
        result = json.loads(run('tokenize', 'text', '-o', 'out/set', '--json').stdout)
        self.assertEqual(documents('out/set'), [b'last', 'h\u00e9llo'.encode(), b'.TH page\n' * 100])
        self.assertEqual((result['documents'], result['tokens'], result['duplicates']), (3, 910, 1))
        self.assertEqual(result['left_out'], {'empty': 1, 'not UTF-8 text': 3, 'unreadable': 0, 'damaged gzip': 1, 'too large': 0,
                                              'no JSON object': 0})
        run('tokenize', 'text', '-o', 'out/set', '--keep-duplicates')
        self.assertEqual(len(documents('out/set')), 4)
        run('tokenize', 'text', '-o', 'out/set', '--ending', '.1', '--ending', '.md')
        self.assertEqual(documents('out/set'), ['h\u00e9llo'.encode(), b'.TH page\n' * 100])
        self.assertEqual(sorted(os.listdir('out')), ['set.bin', 'set.idx'])

    def test_large_texts_and_any_number_of_threads(self):
        line = 'b\u00e4ume und stra\u00dfen \U0001f333 '.encode()
        self.put('text/large', line * 120000)          # longer than a slot, characters across all piece borders
        self.put('text/large2.gz', gzip.compress(b'y' + line * 120000))
        self.put('text/large3', line * 120000 + b'\xff')
        self.put('text/large4', line * 120000)
        for i in range(200):
            self.put(f'text/b/{i}', b'%d ' % i * i * 20 + b'.')
        sets = []
        for threads in '1', '2', '7':
            run('tokenize', 'text', '-o', 'set', '-j', threads)
            sets.append((read('set.bin'), read('set.idx')))
        self.assertEqual(sets[0], sets[1])
        self.assertEqual(sets[0], sets[2])
        found = documents('set')
        self.assertEqual(len(found), 200 + 2 + 3)
        self.assertIn(line * 120000, found)
        self.assertIn(b'y' + line * 120000, found)
        left_out = json.loads(run('tokenize', 'text', '-o', 'set', '--max-document', '1MB', '--json').stdout)['left_out']
        self.assertEqual((left_out['too large'], left_out['not UTF-8 text']), (4, 0))
        self.assertEqual(json.loads(run('tokenize', 'text/b', '-o', 'set', '--max-tokens', '5000', '--json').stdout)['tokens'] >= 5000, True)
        self.assertLess(len(documents('set')), 200)

    def test_a_signal_leaves_the_old_set(self):
        run('tokenize', 'text', '-o', 'set')
        before = read('set.bin'), read('set.idx')
        self.put('endless.gz', gzip.compress(b'z' * (1 << 28), 1) * 8)
        child = subprocess.Popen([MUSE_DATA, 'tokenize', 'text', 'endless.gz', '-o', 'set', '--max-document', '100GB'],
                                 stderr=subprocess.PIPE, text=True)
        while not os.path.exists('.set.partial'):
            time.sleep(0.01)
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, message = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 75)
        self.assertIn("stopped; 'set' is as it was before", message)
        self.assertEqual((read('set.bin'), read('set.idx')), before)
        self.assertEqual(sorted(os.listdir('.')), ['.set.partial', 'endless.gz', 'set.bin', 'set.idx', 'text'])

    def test_inspect(self):
        self.put('text/escape', b'red \x1b[31m text')
        run('tokenize', 'text', '-o', 'set')
        shown = run('inspect', 'set', '--scan', '--document', '3').stdout
        self.assertIn('4 documents, 924 tokens', shown.replace('set: version 2, ', ''))
        self.assertIn('--- document 2', run('inspect', 'set', '--document', '2').stdout)
        self.assertIn('red \\x1B[31m text', run('inspect', 'set', '--document', '2').stdout)
        self.assertIn('last', shown)
        result = json.loads(run('inspect', 'set', '--json', '--scan', '-n', '5').stdout)
        self.assertEqual((result['documents'], result['tokens'], result['tokenizer'], result['vocab_size']), (4, 924, 'bytes', 257))
        self.assertEqual((len(result['samples']), sum(b['documents'] for b in result['lengths'])), (5, 4))
        self.assertEqual(result['largest_id'], 0xc3)
        self.put('old.bin', struct.pack('<3I', 104, 105, 33))
        self.put('old.idx', b'MUSE' + struct.pack('<IQQ', 1, 0, 3))
        self.assertIn('104 105 33', run('inspect', 'old').stdout)
        self.assertIn('hi!', run('inspect', 'old', '--tokenizer', 'bytes').stdout)
        self.put('set.bin', struct.pack('<H', 300) + read('set.bin')[2:])
        self.assertIn("set.bin': token 0 (byte 0) has the id 300", run('inspect', 'set', '--scan', expect=5).stderr)

    def test_errors_are_sentences(self):
        for arguments, sentence in [
            (['tokenise'], "did you mean 'tokenize'?"),
            (['tokenize'], 'name at least one folder'),
            (['tokenize', 'text'], 'say with -o NAME'),
            (['tokenize', 'absent', '-o', 'set'], "cannot read 'absent'"),
            (['tokenize', 'text', '-o', 'set', '-t', 'bpe'], "no tokenizer 'bpe'"),
            (['tokenize', 'text', '-o', 'set', '--ending', '.nothing'], 'no text was found'),
            (['tokenize', 'text', '-o', 'set', '--thread', 'x'], 'whole number'),
            (['inspect'], 'name one token set'),
            (['inspect', 'absent'], "no token set 'absent'"),
        ]:
            with self.subTest(arguments):
                self.assertIn(sentence, run(*arguments, expect=2).stderr)
        self.assertEqual(os.listdir('.'), ['text'])
        run('tokenize', 'text', '-o', 'set')
        self.assertIn('the last is number 2', run('inspect', 'set', '-d', '3', expect=2).stderr)
        for help_of in [], ['tokenize'], ['inspect']:
            self.assertIn('sage:', run(*help_of, '--help').stdout)


if __name__ == '__main__':
    unittest.main()
