#!/usr/bin/env python3
"""muse-data recipe: by flags, by a pipe, and on a terminal; what it refuses, and that it leaves nothing half-done."""
import os
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import time

import programs
from programs import program, run

ENGLISH = {**os.environ, 'LC_ALL': 'C.UTF-8'}
JAPANESE = {**os.environ, 'LC_ALL': 'ja_JP.UTF-8'}


class Recipe(programs.Scratch):
    def setUp(self):
        super().setUp()
        shutil.copytree(os.path.join(programs.SOURCE, 'configs'), self.path('configs'))
        os.remove(self.path('configs', 'dataset_mixing.yaml'))
        os.makedirs(self.path('data', 'wiki_ja'))
        for name, tokens in (('cosmopedia', 40000), ('evol_instruct_code', 20000), ('wiki_ja/train', 30000),
                             ('own texts', 10000)):
            self.token_set(name, tokens)

    def token_set(self, name, tokens, tokenizer_hash=None):
        with open(self.path('text.txt'), 'w', encoding='utf-8') as f:
            f.write('a b c d e.' * (tokens // 10))
        run('muse-data', 'tokenize', self.path('text.txt'), '-o', self.path('data', name), '-q')
        if tokenizer_hash:
            with open(self.path('data', name + '.idx'), 'r+b') as f:
                f.seek(16)
                f.write(struct.pack('<Q', tokenizer_hash))

    def recipe(self, *args, status=0, env=None, typed=''):
        return run('muse-data', 'recipe', *args, status=status, cwd=self.dir, env=env or ENGLISH, input=typed)

    def written(self, name='configs/dataset_mixing.yaml'):
        with open(self.path(name), encoding='utf-8') as f:
            text = f.read()
        return {name: float(weight) for name, weight in re.findall(r'^  "(.*)":\n.*\n    weight: (.*)$', text, re.M)}

    def files(self):
        return sorted(os.path.join(where, name) for where, _, names in os.walk(self.dir) for name in names)

    def refused(self, *args, says, status=2, typed=''):
        before = self.files()
        done = self.recipe(*args, status=status, typed=typed)
        self.assertIn(says, done.stderr)
        self.assertEqual(self.files(), before)
        return done

    # ---- by flags ----

    def test_presets(self):
        for preset, lead, share in (('balanced', 'cosmopedia', 30 / 85), ('code', 'evol_instruct_code', 60 / 90),
                                    ('japanese', 'wiki_ja', 75 / 95), ('textbook', 'cosmopedia', 80 / 93)):
            done = self.recipe('--preset', preset, '--yes', '--force')
            weights = self.written()
            self.assertAlmostEqual(sum(weights.values()), 1, places=5)
            self.assertAlmostEqual(weights[lead], share, places=5)
            self.assertEqual(set(weights), {'cosmopedia', 'evol_instruct_code', 'wiki_ja', 'own texts'})
            self.assertIn('█', done.stdout)
        self.assertIn('#', self.recipe('--yes', '--force', env={**ENGLISH, 'LC_ALL': 'C'}).stdout)

    def test_own_weights(self):
        self.recipe('--weights', 'cosmopedia=3', '-w', 'own texts=1,wiki_ja=0', '--yes')
        self.assertEqual(self.written(), {'cosmopedia': 0.75, 'own texts': 0.25})

    def test_a_share_is_spread_by_tokens(self):
        self.token_set('more_code', 60000)
        self.recipe('--preset', 'code', '--yes')
        weights = self.written()
        self.assertAlmostEqual(weights['more_code'] / weights['evol_instruct_code'], 3, places=4)

    def test_repeats(self):
        done = self.recipe('--weights', 'cosmopedia=1,wiki_ja=1', '--tokens', '0.2M', '--yes')
        self.assertEqual(done.stderr, '')
        self.assertEqual(re.findall(r'([\d.]+) times', done.stdout), ['2.50', '0.00', '0.00', '3.33'])
        done = self.recipe('--weights', 'cosmopedia=1,wiki_ja=1', '--tokens', '400k', '--yes', '--force')
        self.assertEqual(len(re.findall('warning:', done.stderr)), 2)
        self.assertIn("'wiki_ja' is gone through 6.7 times", done.stderr)

    def test_configs(self):
        estimate = re.compile(r'planned peak +([\d.]+) (MB|GB)')
        for size, file in (('tiny', 'muse-tiny'), ('300m', 'phase8_300m'), ('1b', 'phase8_1b'),
                           ('10b', 'phase8_10b_rtx3080')):
            done = self.recipe('--config', size, '--tokens', '3M', '--memory', '200GiB', '--yes', '--force')
            self.assertIn(f'configs/my_{size}.yaml', done.stdout)
            config = self.path('configs', f'my_{size}.yaml')
            run('musec', '--check', config)
            with open(config, encoding='utf-8') as f:
                text = f.read()
            # The template's head speaks of its own vocabulary and size; this one says where the config comes from.
            self.assertTrue(text.startswith(f'# Made by muse-data recipe from {file}.yaml, for 3M tokens.\nvocab_size: 257\n'), text)
            keys = dict(re.findall(r'^(\w+): *([^ #\n]+)', text, re.M))
            self.assertEqual((keys['vocab_size'], keys['tokenizer'], keys['eos_token_id']), ('257', '"bytes"', '256'))
            step = int(keys['n_seq']) * int(keys['batch_size']) * int(keys.get('gradient_accumulation_steps', 1))
            self.assertEqual(int(keys['max_steps']), -(-3000000 // step))
            if size == '10b':  # its estimate takes half a minute
                continue
            text = run('musec', '--estimate', '--set', 'memory_budget=0',
                       os.path.join(programs.SOURCE, 'configs', file + '.yaml')).stdout
            number, unit = estimate.search(text).groups()
            self.assertIn(size + ' ', self.models)
            need = self.models[size + ' ']
            self.assertLess(abs(need / (float(number) * {'MB': 1e6, 'GB': 1e9}[unit]) - 1), 0.1, size)

    @property
    def models(self):
        """What the wizard says each model needs, in bytes."""
        done = self.recipe(typed='\n', status=2)
        found = re.findall(r'^  \d  (\w+ ) *needs ([\d.]+) (MB|GB)', done.stdout, re.M)
        return {name: float(n) * {'MB': 1e6, 'GB': 1e9}[unit] for name, n, unit in found}

    def test_a_tokenizer_beside_the_sets(self):
        with open(self.path('text.txt'), 'w', encoding='utf-8') as f:
            draw = random.Random(1)
            f.write('\n'.join(' '.join(''.join(draw.choices('abcdefghijk', k=5)) for _ in range(6)) for _ in range(2000)))
        trained = run('muse-data', 'tokenizer', 'train', self.path('text.txt'), '-o', self.path('t.model'),
                      '--vocab-size', 400, status=None)
        if trained.returncode:
            self.assertIn('needs MUSE built with', trained.stderr)
            self.skipTest('built without SentencePiece')
        run('muse-data', 'tokenize', self.path('text.txt'), '-t', self.path('t.model'), '-o', self.path('own', 'set'), '-q')
        self.recipe('--data', 'own', '--config', 'tiny', '--yes')
        with open(self.path('configs', 'my_tiny.yaml'), encoding='utf-8') as f:
            keys = dict(re.findall(r'^(\w+): *([^ #\n]+)', f.read(), re.M))
        self.assertEqual(keys['vocab_size'], '400')
        self.assertEqual(keys['tokenizer'], '"own/set.tokenizer.model"')
        run('musec', '--check', self.path('configs', 'my_tiny.yaml'), cwd=self.dir)
        self.refused('--data', 'own', '--config', 'tiny', '--tokenizer', 'bytes', '--yes', '--force', status=5,
                     says='is not the tokenizer that made')

    def test_the_machine_decides(self):
        for memory, size in (('1GB', 'tiny'), ('12GB', '300m'), ('40GB', '1b'), ('80GB', '10b')):
            done = self.recipe('--config', 'auto', '--memory', memory, '--yes', '--force')
            self.assertIn(f'my_{size}.yaml', done.stdout)
        done = self.recipe('--config', '10b', '--memory', '8GiB', '--yes', '--force')
        self.assertIn('needs more memory than this machine has', done.stderr)

    def test_what_it_writes_trains(self):
        self.recipe('--config', 'tiny', '--tokens', '20k', '--yes')
        run('musec', self.path('configs', 'my_tiny.yaml'), '-o', self.path('tiny.plan'))
        done = run('muse-run', 'train', self.path('tiny.plan'), '--data', 'configs/dataset_mixing.yaml', '-o', 'run',
                   '--steps', 2, '--eval-interval', 0, '--sample-interval', 0, cwd=self.dir)
        self.assertRegex(done.stderr, r'own texts +\d')

    # ---- what is refused, and what is left out ----

    def test_wrong_flags(self):
        self.refused('--preset', 'music', '--yes', says="unknown mixture 'music'")
        self.refused('--weights', 'cosmopedai=1', '--yes', says="did you mean 'cosmopedia'")
        self.refused('--weights', 'cosmopedia', '--yes', says='NAME=WEIGHT')
        self.refused('--weights', 'cosmopedia=-1', '--yes', says='a number from 0 to 1e9')
        self.refused('--weights', 'cosmopedia=nan', '--yes', says='a number from 0 to 1e9')
        self.refused('--weights', 'cosmopedia=0', '--yes', says='all weights are 0')
        self.refused('--weights', 'cosmopedia=1', '--preset', 'code', '--yes', says='not both')
        self.refused('--preset', 'custom', '--yes', says='needs weights')
        self.refused('--tokens', 'many', '--yes', says="not 'many'")
        self.refused('--tokens', '-3', '--yes', says="not '-3'")
        self.refused('--config', 'huge', '--yes', says="unknown config 'huge'")
        self.refused('--config', 'tiny', '--configs', 'nowhere', '--yes', says='nowhere/muse-tiny.yaml')
        self.refused('--config', 'tiny', '--config-output', 'configs/dataset_mixing.yaml', '--yes', says='cannot both')
        self.refused('--lang', 'fr', '--yes', says='en or ja')
        self.refused('extra', '--yes', says="'extra' is one")
        self.refused('--data', 'nowhere', '--yes', says="no folder 'nowhere'")
        self.refused('-o', 'nowhere/recipe.yaml', '--yes', says='nowhere/recipe.yaml', status=None)
        # the second file cannot be written, so the first is not, either
        self.refused('-o', 'r.yaml', '--config', 'tiny', '--config-output', 'nowhere/c.yaml', '--yes', says='nowhere',
                     status=None)

    def test_files_that_are_there_stay(self):
        self.recipe('--yes')
        before = self.written()
        self.refused('--preset', 'code', '--yes', says='--force replaces it')
        self.assertEqual(self.written(), before)
        self.refused('--preset', 'code', '--config', 'tiny', '--config-output', 'configs/muse-tiny.yaml', '-o', 'r.yaml',
                     '--yes', says="'configs/muse-tiny.yaml' is there already; --force replaces it, --config-output names")
        self.recipe('--preset', 'code', '--yes', '--force')
        self.assertNotEqual(self.written(), before)

    def test_sets_that_do_not_serve(self):
        self.token_set('foreign', 5000, tokenizer_hash=77)
        self.token_set('torn', 5000)
        self.token_set('lone', 5000)
        self.token_set('small', 100)
        os.truncate(self.path('data', 'torn.bin'), 4999)
        os.remove(self.path('data', 'lone.bin'))
        with open(self.path('data', 'wild.idx'), 'wb') as f:
            f.write(os.urandom(1000))
        shutil.copy(self.path('data', 'cosmopedia.bin'), self.path('data', 'wild.bin'))
        done = self.recipe('--yes')
        left_out = done.stdout[done.stdout.index('Left out'):]
        for name, why in (('foreign', 'another tokenizer'), ('torn', 'torn.'), ('lone', 'its .bin is missing'),
                          ('wild', 'wild.idx'), ('small', 'fewer than 1024')):
            self.assertRegex(left_out, f'data/{name}: .*{re.escape(why)}')
        self.assertEqual(set(self.written()), {'cosmopedia', 'evol_instruct_code', 'wiki_ja', 'own texts'})
        os.makedirs(self.path('empty'))
        self.refused('--data', 'empty', '--yes', says='holds no token set')

    def test_a_mixture_without_its_data(self):
        for name in os.listdir(self.path('data')):
            if name.startswith(('cosmopedia', 'wiki_ja')):
                path = self.path('data', name)
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        self.refused('--preset', 'textbook', '--yes', says="needs a set of the kind 'textbook'")
        self.refused('--preset', 'japanese', '--yes', says='make data-ja')
        self.assertIn('(there is no such set)', self.recipe(typed='', status=2).stdout)

    def test_odd_names(self):
        for name in ('a "b" \\c', "it's: #1 {x}", '日本語', '- x'):
            self.token_set(name, 2000)
        self.recipe('--yes')
        data = run('muse-run', 'train', self.plan(programs.SMALL_HYBRID), '--data', 'configs/dataset_mixing.yaml', '-o',
                   'run', '--steps', 1, '--eval-interval', 0, cwd=self.dir)
        for name in ('a "b" \\c', "it's: #1 {x}", '日本語', '- x'):
            self.assertIn(name, data.stderr)

    # ---- questions ----

    def test_answers_from_a_pipe(self):
        # custom; weights; no config; tokens; yes; write
        self.recipe(typed='9\nx\n5\n1\n1\nbad\n0\n2\n0\n100k\n\n\n')
        self.assertEqual(self.written(), {'cosmopedia': 0.25, 'evol_instruct_code': 0.25, 'wiki_ja': 0.5})
        # code; config tiny; its tokens; no; textbook; its tokens; yes; replace: no; config: yes
        done = self.recipe(typed='2\n1\n\nn\n4\n\ny\nn\ny\n')
        self.assertIn("Wrote 'configs/my_tiny.yaml'", done.stdout)
        self.assertIn(' train on (300M, 2B, 1e9)? [2.048M]: ', done.stdout)
        # What comes next can be typed as it stands, and keeps the run.
        self.assertIn(f'  {program("muse-run")} train configs/my_tiny.yaml --data configs/dataset_mixing.yaml -o runs/my_tiny\n',
                      done.stdout)
        self.assertEqual(self.written()['wiki_ja'], 0.5)
        self.assertIn('Nothing was written', self.recipe(typed='\n0\n\ny\nn\n').stdout)

    def test_every_early_end_leaves_nothing(self):
        answers = '5\n1\n1\n1\n1\n1\n1M\ny\ny\ny\n'
        for cut in range(len(answers)):
            self.refused(typed=answers[:cut], says='nothing was written')
        self.recipe(typed=answers)
        self.assertTrue(os.path.exists(self.path('configs', 'my_tiny.yaml')))

    def test_japanese(self):
        done = self.recipe(env=JAPANESE, typed='3\n0\n\nはい\ny\n')
        for words in ('トークンセット', 'どの配合にしますか', '日本語中心', '書き込みました'):
            self.assertIn(words, done.stdout)
        self.assertIn('どの配合', self.recipe('--lang', 'ja', typed='', status=2).stdout)
        self.assertIn('Which mixture', self.recipe('--lang', 'en', env=JAPANESE, typed='', status=2).stdout)

    # ---- a terminal ----

    def terminal(self, *script, env=None):
        """Waits for a text, then types, in turn. Returns the exit code (negative: the signal) and all that was shown."""
        path = program('muse-data')
        child, terminal = programs.fork_on_terminal()
        if child == 0:
            try:
                os.chdir(self.dir)
                os.execve(path, ['muse-data', 'recipe'], env or ENGLISH)
            finally:
                os._exit(127)
        shown, start, deadline = b'', 0, time.monotonic() + 60
        for awaited, typed in (*script, (None, b'')):
            while awaited is None or awaited.encode() not in shown[start:]:
                self.assertLess(time.monotonic(), deadline, shown.decode(errors='replace'))
                if not select.select([terminal], [], [], 1)[0]:
                    continue
                try:
                    piece = os.read(terminal, 4096)
                except OSError:  # the other side is gone
                    piece = b''
                if not piece:
                    break
                shown += piece
            if awaited is not None:
                self.assertIn(awaited.encode(), shown[start:])
                start = len(shown)
            if typed:
                os.write(terminal, typed)
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode(errors='replace')

    def test_on_a_terminal(self):
        code, shown = self.terminal(('Mixture [1]:', b'4\n'), ('Config [', b'1\n'), ('How many tokens', b'80k\n'),
                                    ('Is this what you want?', b'\n'), ('Write ', b'\n'), ('my_tiny', b'y\n'))
        self.assertEqual(code, 0, shown)
        self.assertAlmostEqual(self.written()['cosmopedia'], 80 / 93, places=5)
        run('musec', '--check', self.path('configs', 'my_tiny.yaml'))
        code, shown = self.terminal(('配合 [1]:', b'\n'), ('設定 [', b'0\n'), ('何トークン', b'\n'), ('これでよい', b'y\n'),
                                    ('置き換えますか', b'n\n'), env=JAPANESE)
        self.assertEqual(code, 0, shown)
        self.assertIn('何も書き込みませんでした', shown)

    def test_interrupts_on_a_terminal(self):
        before = self.files()
        script = [('Mixture [1]:', b'1\n'), ('Config [', b'1\n'), ('How many tokens', b'80k\n'),
                  ('Is this what you want?', b'\n'), ('Write ', b'\n'), ('my_tiny', b'')]
        for n in range(len(script)):
            for key, expected in ((b'\x03', 75), (b'\x04', 2)):
                code, shown = self.terminal(*script[:n], (script[n][0], key))
                self.assertEqual(code, expected, shown)
                self.assertIn('nothing was written', shown)
                self.assertEqual(self.files(), before)

    def test_a_kill_leaves_nothing(self):
        before = self.files()
        with subprocess.Popen([program('muse-data'), 'recipe'], cwd=self.dir, env=ENGLISH, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            p.stdin.write(b'1\n')
            p.stdin.flush()
            shown = b''
            while b'Config [' not in shown:
                shown += p.stdout.read1(4096)
            p.send_signal(signal.SIGTERM)
            p.wait(timeout=60)
        self.assertEqual(p.returncode, 75)
        self.assertEqual(self.files(), before)


if __name__ == '__main__':
    programs.main()
