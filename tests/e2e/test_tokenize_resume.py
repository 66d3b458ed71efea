#!/usr/bin/env python3
"""muse-data tokenize that is killed or stopped at any moment goes on, and ends with the bytes of one that was not."""
import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time

import programs
from programs import program, run

KILLS = 10
BPE = os.path.join(programs.SOURCE, 'tests', 'tokenizers', 'gpt2.json')


class TokenizeResume(programs.Scratch):
    def setUp(self):
        super().setUp()
        draw = random.Random(7)
        words = [''.join(draw.choice('etaoinshrdlu') for _ in range(draw.randint(2, 9))) for _ in range(2000)]
        self.words = lambda n: ' '.join(draw.choices(words, k=n))
        os.makedirs(self.path('text', 'b'))
        lines = []
        for i in range(12000):
            lines.append(json.dumps({'text': self.words(40) + '日本語 🌳' if i % 13 else 'the same again'}))
            if i % 101 == 0:
                lines += ['no JSON', '', '{"text": null}']
        self.put('text/a.jsonl', '\n'.join(lines))
        self.put('text/b/packed.jsonl.gz', gzip.compress('\n'.join(lines[::-2]).encode(), 1))
        for i in range(300):
            self.put(f'text/b/{i:03}.txt', self.words(300) if i % 17 else '')
        self.put('text/c_large.txt', self.words(400000))  # longer than a slot: streamed
        self.put('text/d_large_again.txt', open(self.path('text', 'c_large.txt'), encoding='utf-8').read())
        self.put('text/e_binary', b'\0\1')
        self.put('text/z.txt', self.words(100))

    def put(self, name, content):
        mode, encoding = ('wb', None) if isinstance(content, bytes) else ('w', 'utf-8')
        with open(self.path(name), mode, encoding=encoding) as f:
            f.write(content)

    def command(self, out, *args):
        return [program('muse-data'), 'tokenize', self.path('text'), '-o', self.path(out), '--json', '--save-interval',
                '0.03', *map(str, args)]

    def hashes(self, out):
        return [hashlib.sha256(open(self.path(out + e), 'rb').read()).hexdigest() for e in ('.bin', '.idx')]

    def result(self, out):
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith('.')], [])
        return self.hashes(out)

    def summary(self, done):
        summary = json.loads(done.stdout)
        del summary['output']
        return summary

    def interrupted(self, *args, signals=(signal.SIGKILL, signal.SIGINT)):
        whole = run('muse-data', *self.command('whole', *args)[1:])
        start = time.monotonic()
        run('muse-data', *self.command('whole', *args, '-j', 1)[1:])
        seconds = time.monotonic() - start
        draw, kills, tries, went_on = random.Random(3), 0, 0, 0
        while kills < KILLS:
            tries += 1
            self.assertLess(tries, 20 * KILLS, 'the program is never in the middle of something')
            p = subprocess.Popen(self.command('set', *args, '-j', draw.choice([1, 2, 5])), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
            time.sleep(draw.uniform(0, seconds / 3))
            number = draw.choice(signals)
            p.send_signal(number)
            out, err = p.communicate(timeout=120)
            went_on += 'going on after' in err
            if p.returncode == 0 or out:  # it was over before, or had only to end
                self.assertEqual(self.result('set'), self.result('whole'))
                os.unlink(self.path('set.bin')), os.unlink(self.path('set.idx'))
                continue
            kills += 1
            self.assertEqual((p.returncode, out), (75 if number == signal.SIGINT else -9, ''), err)
            self.assertNotIn('starting over', err)
            if number == signal.SIGINT:
                self.assertIn("set' is as it was before", err)
            if os.path.exists(self.path('set.idx')):  # the kill came after the last rename
                self.assertEqual(self.hashes('set'), self.hashes('whole'))
                os.unlink(self.path('set.bin')), os.unlink(self.path('set.idx'))
        done = run('muse-data', *self.command('set', *args)[1:])
        self.assertEqual(self.result('set'), self.result('whole'))
        self.assertEqual(self.summary(done), self.summary(whole))
        self.assertGreater(went_on, KILLS / 4)

    def test_bytes(self):
        self.interrupted()

    def test_bpe(self):
        self.interrupted('-t', BPE)
        self.assertTrue(os.path.exists(self.path('set.tokenizer.json')))

    def test_options(self):
        self.interrupted('--keep-duplicates', '--max-tokens', 2500000, '--ending', '.jsonl', '--ending', '.txt')

    def stopped(self, out, *args, documents=1000):
        """A beginning of that many documents at least, of a run that was killed."""
        p = subprocess.Popen(self.command(out, '-j', 1, *args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        journal = self.path(f'.{out}.partial', 'journal.json')
        while True:
            try:
                if json.load(open(journal, encoding='utf-8'))['documents'] >= documents:
                    break
            except FileNotFoundError:
                pass
            self.assertIsNone(p.poll(), 'it was over too soon')
        p.kill()
        p.wait()
        return self.path(f'.{out}.partial')

    def test_what_was_begun_and_does_not_fit(self):
        whole = self.summary(run('muse-data', *self.command('whole')[1:]))
        folder = self.stopped('set')
        # other options, and with them the other result
        done = run('muse-data', *self.command('set', '--keep-duplicates')[1:])
        self.assertIn('was begun before, but with other options', done.stderr)
        self.assertEqual(done.stderr.count('starting over'), 1)
        self.assertGreater(self.summary(done)['documents'], whole['documents'])
        run('muse-data', *self.command('kept', '--keep-duplicates')[1:])
        self.assertEqual(self.result('set'), self.result('kept'))
        # a damaged file of each kind
        for name in ('bin', 'idx', 'seen', 'journal.json'):
            self.stopped('set')
            with open(os.path.join(folder, name), 'r+b') as f:
                f.seek(100)
                f.write(b'\xff\0\xff')
            done = run('muse-data', *self.command('set')[1:])
            self.assertIn('was begun before, but what is there is damaged; starting over', done.stderr, name)
            self.assertEqual(self.result('set'), self.result('whole'), name)
        self.stopped('set')
        os.unlink(os.path.join(folder, 'bin'))
        self.assertIn('starting over', run('muse-data', *self.command('set')[1:]).stderr)
        self.assertEqual(self.result('set'), self.result('whole'))

    def test_inputs_that_change(self):
        def touch():
            os.utime(self.path('text', 'a.jsonl'), (1, 1))

        for change in (touch, lambda: self.put('text/0.txt', 'in front'),
                       lambda: (self.put('text/b/000.txt', 'short'), os.unlink(self.path('text', 'a.jsonl')))):
            self.stopped('set', documents=11100)
            change()
            done = run('muse-data', *self.command('set')[1:])
            self.assertIn('its inputs have changed since; starting over', done.stderr)
            run('muse-data', *self.command('whole')[1:])
            self.assertEqual(self.result('set'), self.result('whole'))
            self.put('text/a.jsonl', '\n'.join(json.dumps({'text': self.words(60)}) for _ in range(12000)))
        # files that come behind what is done are as good as those that were there
        self.stopped('set')
        self.put('text/zz.txt', 'at the end')
        done = run('muse-data', *self.command('set')[1:])
        self.assertIn('going on after', done.stderr)
        run('muse-data', *self.command('whole')[1:])
        self.assertEqual(self.result('set'), self.result('whole'))
        # all files gone: nothing is made of what was begun
        self.stopped('set')
        shutil.rmtree(self.path('text'))
        os.mkdir(self.path('text'))
        self.assertIn('no text was found', run('muse-data', *self.command('set')[1:], status=2).stderr)

    def test_one_at_a_time(self):
        p = subprocess.Popen(self.command('set', '-t', BPE, '-j', 1), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        while not os.path.exists(self.path('.set.partial', 'journal.json')):
            self.assertIsNone(p.poll())
        self.assertIn('another muse-data makes', run('muse-data', *self.command('set')[1:], status=2).stderr)
        os.kill(p.pid, signal.SIGTERM)
        self.assertEqual(p.wait(timeout=60), 75)
        run('muse-data', *self.command('set', '-t', BPE)[1:])

    def test_an_old_set_stays_until_the_new_one_is_whole(self):
        self.put('one.txt', 'an old set')
        run('muse-data', 'tokenize', self.path('one.txt'), '-o', self.path('set'))
        before = self.result('set')
        self.stopped('set')
        self.assertEqual(self.hashes('set'), before)
        run('muse-data', *self.command('set')[1:])
        run('muse-data', *self.command('whole')[1:])
        self.assertEqual(self.result('set'), self.result('whole'))

    def test_a_link_stays_a_link(self):
        os.mkdir(self.path('disk'))
        for ending in '.bin', '.idx':
            self.put('disk/far' + ending, b'')
            os.symlink(self.path('disk', 'far' + ending), self.path('set' + ending))
        run('muse-data', *self.command('set')[1:])
        run('muse-data', *self.command('whole')[1:])
        self.assertEqual(self.result('set'), self.result('whole'))
        self.assertTrue(os.path.islink(self.path('set.bin')))
        self.assertEqual(sorted(os.listdir(self.path('disk'))), ['far.bin', 'far.idx'])

    def test_a_full_disk(self):
        limit = ['sh', '-c', 'ulimit -f 5000; exec "$@"', 'sh']
        done = subprocess.run([*limit, *self.command('set', '--save-interval', '0.001')], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('File too large', done.stderr)
        self.assertIn('the same command goes on from there', done.stderr)
        self.assertFalse(os.path.exists(self.path('set.bin')))
        self.assertIn('going on after', run('muse-data', *self.command('set')[1:]).stderr)
        run('muse-data', *self.command('whole')[1:])
        self.assertEqual(self.result('set'), self.result('whole'))

    def test_too_few_open_files(self):
        """No file is left out for that: the run stops, and goes on when it can."""
        def limited(n, *command):
            return subprocess.run(command, capture_output=True, text=True, check=False,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)))

        whole = self.summary(run('muse-data', *self.command('whole')[1:]))
        stopped = 0
        for limit in range(5, 13):
            done = limited(limit, *self.command('set', '-j', 4))
            if done.returncode == 0:
                self.assertEqual(self.result('set'), self.result('whole'), limit)
                os.unlink(self.path('set.bin')), os.unlink(self.path('set.idx'))
                continue
            stopped += 1
            self.assertEqual((done.returncode, done.stdout), (1, ''), done.stderr)
            self.one_error(done, ["'" + self.dir, 'Too many open files; raise the limit of open files (ulimit -n)'])
            self.assertFalse(os.path.exists(self.path('set.bin')))
        self.assertGreaterEqual(stopped, 3)
        # Four files are open all the time: with none beyond them, a file cannot be read, nor a folder.
        for name in ('text/z.txt', 'text/c_large.txt', 'text/a.jsonl', 'text/b'):
            done = limited(7, program('muse-data'), 'tokenize', self.path(name), '-o', self.path('other'))
            self.assertEqual((done.returncode, done.stdout), (1, ''), done.stderr)
            self.one_error(done, f"cannot read '{self.path(name)}': Too many open files")
        # In the middle of the work.
        p = subprocess.Popen(self.command('set', '-j', 2, '--keep-duplicates'), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        while not os.path.exists(self.path('.set.partial', 'journal.json')):
            self.assertIsNone(p.poll(), 'it was over too soon')
        resource.prlimit(p.pid, resource.RLIMIT_NOFILE, (7, 7))
        out, err = p.communicate(timeout=120)
        self.assertEqual((p.returncode, out), (1, ''), err)
        self.assertIn('Too many open files', err)
        self.assertIn('the same command goes on from there', err)
        # Nor is what was begun given up.
        for limit in (5, 6, 7):
            done = limited(limit, *self.command('set', '--keep-duplicates'))
            self.assertEqual((done.returncode, done.stdout), (1, ''), done.stderr)
            self.assertNotIn('starting over', done.stderr)
        done = run('muse-data', *self.command('set', '--keep-duplicates')[1:])
        self.assertIn('going on after', done.stderr)
        run('muse-data', *self.command('kept', '--keep-duplicates')[1:])
        self.assertEqual(self.result('set'), self.result('kept'))
        done = run('muse-data', *self.command('set')[1:])
        self.assertEqual(self.result('set'), self.result('whole'))
        self.assertEqual(self.summary(done), whole)


if __name__ == '__main__':
    programs.main()
