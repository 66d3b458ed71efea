#!/usr/bin/env python3
"""Wrong inputs and bad moments: each ends in one sentence with its exit code; nothing is lost or left half written."""
import array
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import programs
from programs import Tensor, load, program, run, save, tokens

CONFIG = programs.TINY_HYBRID + """max_steps: 6
warmup_steps: 2
learning_rate: 3e-3
eval_interval: 3
eval_batches: 1
save_interval: 3
sample_interval: 3
sample_tokens: 8
"""
TEXT = ''.join(f'Line {i} of a text that says nothing, {i * i} times over.\n' for i in range(400))


def read(path):
    with open(path, 'rb') as f:
        return f.read()


class WrongInputs(programs.Scratch):
    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp(prefix='muse-e2e-')
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        config, text = os.path.join(cls.base, 'model.yaml'), os.path.join(cls.base, 'text.txt')
        with open(config, 'w', encoding='utf-8') as f:
            f.write(CONFIG)
        with open(text, 'w', encoding='utf-8') as f:
            f.write(TEXT)
        cls.yaml, cls.plan_path, cls.data = config, os.path.join(cls.base, 'model.plan'), os.path.join(cls.base, 'text')
        cls.run_dir = os.path.join(cls.base, 'run')
        run('musec', config, '-o', cls.plan_path)
        run('muse-data', 'tokenize', text, '-o', cls.data)
        run('muse-run', 'train', cls.plan_path, '--data', cls.data, '-o', cls.run_dir, '--stop-after', 4, '-q')

    def train(self, *args, **kwargs):
        return run('muse-run', 'train', self.plan_path, '--data', self.data, *args, **kwargs)

    def copy_run(self):
        return shutil.copytree(self.run_dir, self.path('run'))

    def test_option_values(self):
        for option, value, says in [('--steps', '-1', 'from 0 on'), ('--learning-rate', '-1', 'from 0 to'),
                                    ('--learning-rate', 'nan', 'needs a number'), ('--keep', '-1', 'from 0 on'),
                                    ('--stop-after', '-2', 'from 0 on'), ('--validation', '1', 'below 1'),
                                    ('--threads', '5000', '1 to 4096'), ('--threads', 'abc', 'whole number'),
                                    ('--seed', '-1', 'from 0 to'), ('--cache-dir', '', 'takes a folder'),
                                    ('--cpu-level', 'fast', 'avx2'), ('--check', 'foo', "only check is 'eval'")]:
            self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'),
                         f'{option}={value}', says=says)
            self.assertFalse(glob.glob(self.path('run', 'step-*')), option)
        self.refused('musec', self.yaml, '--bisect=-1', '--check', says='from 0 on')
        self.refused('musec', self.yaml, '--target=gpu', '--check', says='use cpu')
        self.refused('muse-data', 'inspect', self.data, '--document=-1', says='from 0 on')

    def test_options_of_another_device(self):
        """None is passed over in silence; the plan is not even read."""
        for option in (['--dump-kernels', self.path('d')], ['--kernel-override', self.path('d')], ['--streams', 2],
                       ['--nvrtc', 'x'], ['--no-tune']):
            for command in (['train', '--data', self.data, '-o', self.path('run')], ['eval', '--data', self.data],
                            ['generate'], ['bench'], ['tensors', '--tokens', 'x.safetensors', '--out', self.path('y')]):
                for device in ([], ['--device', 'cpu']):
                    self.refused('muse-run', *command, self.plan_path, *option, *device,
                                 says=f'{option[0]} is for a GPU; add --device cuda, or leave it out')
            self.refused('muse-run', 'init', self.plan_path, '-o', self.path('init'), *option, says='unknown option')
        for option, device in (('--cpu-level=scalar', 'cuda'), ('--host-memory=1GB', 'cuda:1')):
            self.refused('muse-run', 'bench', self.plan_path, '--device', device, option,
                         says=f'{option.split("=")[0]} is for the CPU; leave it out, or --device {device}')
        self.refused('muse-run', 'init', self.plan_path, '-o', self.path('x'), '--param', 'embed.weight', '--device', 'gpu',
                     says='--device takes')
        self.assertEqual(os.listdir(self.dir), [])

    def test_options_that_mean_nothing_alone(self):
        tokens(self.path('tokens.safetensors'), [[[1] * 33] * 2])
        ready = '--tokens', self.path('tokens.safetensors')
        run('musec', self.yaml, '--bisect=0', '--emit=mir', '-o', self.path('model.mir'))
        for args, says in [
                (['musec', self.yaml, '--json'], 'add --estimate'),
                (['musec', self.yaml, '--json', '--peak'], 'add --estimate'),
                (['musec', self.yaml, '--json', '--peak', '--estimate'], 'leave out --peak or --json'),
                (['musec', self.yaml, '--check', '--dump-dir', self.path('d')], 'say with --dump-ir which'),
                (['musec', self.yaml, '--emit=cuda', '--nvrtc', 'x'], 'is for --emit=ptx'),
                (['musec', self.yaml, '--check', '-o', self.path('p')], 'leave it out, or -o'),
                (['musec', self.yaml, '--check', '--emit=mir'], 'leave it out, or --emit'),
                (['musec', self.path('model.mir'), '--set', 'n_layers=2'], '--set is for a configuration'),
                (['musec', self.plan_path, '--memory-budget=1GB'], '--memory-budget is for a configuration'),
                (['muse-run', 'train', self.plan_path, *ready, '--validation', 0.1], '--validation is for text of --data'),
                (['muse-run', 'train', self.plan_path, *ready, '--eval-interval', 1], '--eval-interval is for'),
                (['muse-run', 'train', self.plan_path, *ready, '--eval-batches', 1], '--eval-batches is for'),
                (['muse-run', 'train', self.plan_path, *ready, '--save-interval', 1], 'with -o RUN_DIR'),
                (['muse-run', 'train', self.plan_path, *ready, '--keep', 1], 'with -o RUN_DIR'),
                (['muse-run', 'train', self.plan(CONFIG, 'tokenizer=null', name='bare.plan'), *ready, '--sample-interval', 1],
                 'leave --sample-interval out'),
                (['muse-run', 'eval', self.plan_path, *ready, '--validation', 0.1], '--validation is for --data'),
                (['muse-data', 'inspect', self.data, '--document', 0, '-n', 3], '--documents is for random documents'),
                (['muse-data', 'inspect', self.data, '--document', 0, '--seed', 3], '--seed is for random documents'),
                (['muse-data', 'import', self.yaml, '-o', self.path('d'), '--column', 'a', '--template', '{a}'],
                 'leave out --column or --template'),
                (['muse-data', 'fetch', '--list', 'cosmopedia'], 'leave out the name cosmopedia'),
                (['muse-data', 'fetch', '--list', '--json'], 'leave out --json'),
                (['muse-data', 'recipe', '--yes', '--config-output', self.path('c')], 'add --config SIZE'),
                (['muse-data', 'recipe', '--config', 'none', '--tokenizer', 'bytes'], 'add --config SIZE'),
                (['muse-data', 'tokenizer', 'show', 'bytes', '--vocab-size', 300], '--vocab-size is for muse-data tokenizer train'),
                (['muse-data', 'tokenizer', 'show', 'bytes', '--block', 3], '--block is for muse-data tokenizer encode'),
                (['muse-data', 'tokenizer', 'encode', 'bytes', self.yaml, '--json'], 'leave it out of encode')]:
            with self.subTest(args=args):
                self.refused(*args, says=says)
        self.assertFalse([name for name in os.listdir(self.dir) if name in ('d', 'p', 'c')])
        run('muse-run', 'train', self.plan_path, *ready, '--eval-interval', 0, '--save-interval', 0, '-q')

    def test_what_json_holds(self):
        """--no-prompt and --top are of the JSON, too."""
        generate = 'muse-run', 'generate', self.plan_path, '--prompt', 'Line', '-n', 4, '--json', '-q'
        whole, bare = (json.loads(run(*generate, *more).stdout) for more in ([], ['--no-prompt']))
        self.assertEqual(whole.pop('prompt'), 'Line')
        self.assertEqual((bare['text'], bare.keys()), (whole['text'], whole.keys()))
        bench = 'muse-run', 'bench', self.plan_path, '-f', 'decode', '-n', 1, '--json', '-q'
        self.assertEqual(len(json.loads(run(*bench, '--top', 2).stdout)['kernels']), 2)
        self.assertGreater(len(json.loads(run(*bench).stdout)['kernels']), 2)

    def test_what_is_no_plan(self):
        with open(self.plan_path, encoding='utf-8') as f:
            text = f.read()
        self.refused('muse-run', 'generate', self.yaml, says='compile it with musec')
        self.refused('muse-run', 'generate', self.path('none.plan'), says='cannot read')
        self.refused('muse-run', 'generate', self.dir, says='is a directory')
        for name, content, says in [('cut', text[:len(text) // 2], 'error'), ('empty', '', 'is not a plan'),
                                    ('old', text.replace('plan_version = 1', 'plan_version = 99', 1), 'version 99'),
                                    ('moved', text.replace('offset = [', 'offset = [9999999', 1), 'musec again')]:
            with open(self.path(name), 'w', encoding='utf-8') as f:
                f.write(content)
            self.refused('muse-run', 'generate', self.path(name), says=says)

    def test_names_of_token_sets(self):
        for name in (self.dir + '/.', self.dir + '/', self.dir + '/..'):
            self.refused('muse-data', 'tokenize', self.yaml, '-o', name, says='not of a folder')
        with open(self.path('empty.txt'), 'w', encoding='utf-8'):
            pass
        self.refused('muse-data', 'tokenize', self.path('empty.txt'), '-o', self.path('set'),
                     says='in 1 file (1 empty)')
        self.refused('muse-data', 'tokenize', self.dir, '-e', '.md', '-o', self.path('set'), says='--ending')
        self.assertEqual(os.listdir(self.dir), ['empty.txt'])

    def test_parameters_of_another_model(self):
        other = self.plan(CONFIG, 'd_model=16')
        params = glob.glob(os.path.join(self.run_dir, 'step-4', 'model.safetensors'))[0]
        self.refused('muse-run', 'generate', other, '--params', params, status=5,
                     says=['embed.weight', 'more do not fit'])
        self.refused('muse-run', 'generate', other, '--checkpoint', self.run_dir, status=5,
                     says='another configuration')
        # No kernel was compiled for it: what does not fit is refused before any work.
        for command in (['train', '--data', self.data, '--init'], ['eval', '--data', self.data, '--checkpoint'],
                        ['generate', '--checkpoint'], ['bench', '--checkpoint']):
            self.refused('muse-run', command[0], other, *command[1:], self.run_dir, '--cache-dir', self.path('cache'),
                         status=5, says='another configuration')
        self.assertFalse(os.path.exists(self.path('cache')))
        self.refused('muse-run', 'generate', self.plan_path, '--checkpoint', params, says='--params')
        tensors = load(params)
        tensors['layers.0.ffn.up.weight'].data[3] = float('nan')
        save(self.path('nan.safetensors'), tensors)
        self.refused('muse-run', 'eval', self.plan_path, '--data', self.data, '--params', self.path('nan.safetensors'),
                     says=['element 3', 'layers.0.ffn.up.weight'])

    def test_parameters_that_are_not_there(self):
        """Found before any kernel is compiled: the cache stays empty."""
        tokens(self.path('tokens.safetensors'), [[[1] * 33] * 2])
        os.mkdir(self.path('empty'))
        for command in (['eval', '--data', self.data], ['generate'], ['bench'],
                        ['tensors', '--tokens', self.path('tokens.safetensors'), '--out', self.path('out.safetensors')]):
            for option, name, says in [('--checkpoint', 'absent', "absent', which --checkpoint names"),
                                       ('--checkpoint', 'empty', 'no folder step-N'),
                                       ('--params', 'absent', "absent', which --params names")]:
                done = self.refused('muse-run', command[0], self.plan_path, *command[1:], option, self.path(name), '--cache-dir',
                                    self.path('cache'), says=says)
                self.assertNotIn('kernels:', done.stderr)
            self.refused('muse-run', command[0], self.plan_path, *command[1:], '--checkpoint', self.run_dir, '--params', 'x',
                         '--cache-dir', self.path('cache'), says='not both')
        self.assertFalse(glob.glob(self.path('cache', '**', '*.bin'), recursive=True))

    def test_tokens_file(self):
        good = [[[1] * 33] * 2] * 2
        file = self.path('tokens.safetensors')
        tokens(file, good)
        before = os.stat(file).st_size
        self.refused('muse-run', 'tensors', self.plan_path, '--tokens', file, '--out', file, says='would overwrite')
        self.assertEqual(os.stat(file).st_size, before)
        done = self.refused('muse-run', 'tensors', self.plan_path, '--tokens', file, '--out', self.yaml + '/x',
                            says='Not a directory')
        self.assertNotIn('kernels:', done.stderr)  # before the work
        run('muse-run', 'tensors', self.plan_path, '--tokens', file, '--out', self.path('new', 'out.safetensors'))
        for batches, says, status in [([[[1] * 32] * 2], 'n_seq + 1 = 33', 2), ([[[1] * 33]], 'compiled for 2', 2),
                                      ([[[257] * 33] * 2], 'vocab_size', 5), ([[[-1] * 33] * 2], 'is -1', 5)]:
            tokens(file, batches)
            self.refused('muse-run', 'train', self.plan_path, '--tokens', file, status=status, says=says)
        save(file, {'tokens': Tensor('F32', [1, 2, 33], array.array('f', [1.0] * 66))})
        self.refused('muse-run', 'train', self.plan_path, '--tokens', file, says='whole numbers')

    def test_id_beyond_the_vocabulary_saves_what_was_done(self):
        for ending in ('.bin', '.idx'):
            shutil.copy(self.data + ending, self.path('text' + ending))
        with open(self.path('text.bin'), 'r+b') as f:
            f.seek(20000)
            f.write(b'\xff\xff')
        done = self.refused('muse-run', 'train', self.plan_path, '--data', self.path('text'), '-o', self.path('run'),
                            '-n', 2000, '--eval-interval', 0, '--sample-interval', 0, '--save-interval', 0, '--json',
                            status=5, says=['text.bin', 'token 10000 (byte 20000)', '65535'])
        last = json.loads(done.stdout.splitlines()[-1])['step']
        self.assertTrue(os.path.isdir(self.path('run', f'step-{last}')), os.listdir(self.path('run')))
        with open(self.path('text.bin'), 'r+b') as f:
            f.seek(20000)
            f.write(b'\x20\x00')
        on = run('muse-run', 'train', self.plan_path, '--data', self.path('text'), '-o', self.path('run'), '--resume',
                 '-n', 2000, '--stop-after', 1, '--json', '-q')
        self.assertEqual(json.loads(on.stdout)['step'], last + 1)

    def test_resume_with_something_else(self):
        self.copy_run()
        other = self.plan(CONFIG, 'n_layers=2')
        self.refused('muse-run', 'train', other, '--data', self.data, '-o', self.path('run'), '--resume', status=5,
                     says='layers.1')
        self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'), '--resume',
                     '--seed', 7, status=5, says='give --seed')
        with open(self.path('other.txt'), 'w', encoding='utf-8') as f:
            f.write(TEXT.upper())
        run('muse-data', 'tokenize', self.path('other.txt'), '-o', self.path('other'))
        self.refused('muse-run', 'train', self.plan_path, '--data', self.path('other'), '-o', self.path('run'),
                     '--resume', status=5, says='other data')
        self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'), says='--resume')
        self.train('-o', self.path('run'), '--resume', '-q')  # none of these harmed the run
        finished = sorted(os.listdir(self.path('run')))
        self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'), '--resume',
                     '--init', self.run_dir, says='leave --init and --params out')
        done = self.train('-o', self.path('run'), '--resume')  # nor does going on with a finished one
        self.assertIn('nothing is left to do: the run is at step 6', done.stderr)
        self.assertEqual(sorted(os.listdir(self.path('run'))), finished)

    def test_a_refused_resume_leaves_the_run_as_it_was(self):
        folder = self.path('run')
        train = ['muse-run', 'train', self.yaml, '--data', self.data, '-o', folder, '-n', 6]
        run(*train, '--stop-after', 4, '-q')

        def content():
            names = sorted(glob.glob(os.path.join(folder, '**'), recursive=True))
            return {name: read(name) for name in names if os.path.isfile(name)}

        before = content()
        self.assertIn(os.path.join(folder, 'model.plan'), before)
        for args, says in [(['--set', 'n_seq=16'], 'other data'), (['--validation', 0.1], 'validation share'),
                           (['--set', 'd_model=16'], 'another configuration'), (['--seed', 7], 'give --seed')]:
            done = self.refused(*train, '--resume', *args, status=5, says=says)
            self.assertEqual('kernels:' in done.stderr, 'd_model=16' not in args)
            self.assertEqual(content(), before, args)
        run(*train, '--resume', '-q')

    def test_no_step_has_no_loss(self):
        done = self.train('-o', self.path('run'), '--stop-after', 0)
        self.assertRegex(done.stdout, r'^step 0, 0 tokens in .*, saved in ')
        self.assertRegex(self.train('-o', self.path('run'), '--resume').stdout, r'^step 6: loss \d')

    def test_no_name_for_the_run(self):
        """As of a shell variable that is not set: nothing is trained that would not be saved."""
        self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', '', says='not an empty name')
        self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'), '--params', 'absent',
                     says="absent', which --params names")
        self.assertEqual(os.listdir(self.dir), [])

    def test_one_run_in_a_folder(self):
        running = subprocess.Popen([program('muse-run'), 'train', self.plan_path, '--data', self.data, '-o',
                                    self.path('run'), '-n', '100000', '--eval-interval', '0', '--sample-interval', '0'],
                                   stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # nohup ignores it
        self.addCleanup(running.kill)
        while 'step 1/' not in running.stderr.readline():
            self.assertIsNone(running.poll())
        self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'), '--resume',
                     says='another muse-run trains')
        running.send_signal(signal.SIGHUP)
        _, err = running.communicate(timeout=60)
        self.assertEqual(running.returncode, 75, err)
        self.assertIn('finished and saved', err)
        self.assertIn('go on with --resume', err)
        self.train('-o', self.path('run'), '--resume', '--stop-after', 1, '-n', 100000, '-q')

    def test_a_signal_while_kernels_compile(self):
        train = ['train', self.plan_path, '--data', self.data, '-o', self.path('run'), '-j', 1]
        for name, number, args in [('train', signal.SIGINT, train), ('train', signal.SIGTERM, train),
                                   ('eval', signal.SIGINT, ['eval', self.plan_path, '--data', self.data, '-j', 1]),
                                   ('bench', signal.SIGINT, ['bench', self.plan_path, '-j', 1]),
                                   ('generate', signal.SIGTERM, ['generate', self.plan_path, '-j', 1])]:
            with self.subTest(name, number=number):
                cache = self.path(f'{name}-{number}')
                p = subprocess.Popen([program('muse-run'), *map(str, args), '--cache-dir', cache, '-q'],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.addCleanup(p.kill)
                while not glob.glob(os.path.join(cache, '**', '*.bin'), recursive=True):
                    self.assertIsNone(p.poll())
                p.send_signal(number)
                out, err = p.communicate(timeout=60)
                self.assertEqual((p.returncode, out), (75, ''), err)
                self.assertIn('stopped while kernels were being prepared', err)
                files = [f for _, _, found in os.walk(cache) for f in found]
                self.assertTrue(all(f.endswith('.bin') for f in files), files)
                self.assertLess(len(files), 10)
                self.assertFalse(glob.glob(self.path('run', 'step-*')))
        run('muse-run', *train, '-n', 1, '-q')

    def test_output_that_goes_away(self):
        long = ['muse-run', 'train', self.plan_path, '--data', self.data, '-n', '100000', '--json', '-q',
                '--eval-interval', '0', '--sample-interval', '0', '-o']
        piped = subprocess.Popen([program(long[0]), *long[1:], self.path('piped')], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        self.addCleanup(piped.kill)
        piped.stdout.readline()
        piped.stdout.close()
        self.assertEqual(piped.wait(timeout=60), 1)
        self.assertIn('which is saved', piped.stderr.read())
        piped.stderr.close()
        self.assertTrue(glob.glob(self.path('piped', 'step-*')))
        full = [('musec', self.yaml), ('musec', '--list-ops'), ('musec', '--help'),
                ('muse-run', 'generate', self.plan_path, '-n', 5, '-q'), ('muse-data', 'inspect', self.data),
                ('muse-run', 'eval', self.plan_path, '--data', self.data, '-q'),
                (*long, self.path('full'))]
        for args in full:
            with open('/dev/full', 'w', encoding='utf-8') as out:
                done = subprocess.run([program(args[0]), *map(str, args[1:])], stdout=out, stderr=subprocess.PIPE,
                                      text=True, check=False)
            self.assertEqual(done.returncode, 1, args)
            self.assertIn('the output is closed or its disk is full', done.stderr)
        closed = subprocess.run(['sh', '-c', 'exec "$@" >&- 2>&-', 'sh', program('muse-run'), 'train', self.plan_path,
                                 '--data', self.data, '-o', self.path('closed'), '--json', '-q'], check=False)
        self.assertEqual(closed.returncode, 1)
        for name in ('.lock', 'metrics.jsonl'):  # no other file took the place of stdout
            with open(self.path('closed', name), encoding='utf-8') as f:
                self.assertTrue(all('kind' in json.loads(line) for line in f), name)

    def test_numbers_that_go_bad(self):
        done = self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'),
                            '--learning-rate', '1e6', '-n', 50, '--save-interval', 1, '--eval-interval', 0,
                            '--sample-interval', 0, '--json', status=4,
                            says=['5 steps in a row', 'learning_rate', '1e-5', 'use_mixed_precision: false', 'layer 0'])
        lines = done.stdout.splitlines()
        bad = [line for line in lines if json.loads(line).get('bad')]
        self.assertEqual(len(bad), 5)
        with open(self.path('run', 'metrics.jsonl'), encoding='utf-8') as f:
            kinds = [k for k in (json.loads(line)['kind'] for line in f) if k != 'trits']
        self.assertEqual(kinds[-5:], ['bad'] * 5)
        for checkpoint in glob.glob(self.path('run', 'step-*', 'model.safetensors')):
            for name, tensor in load(checkpoint).items():
                self.assertTrue(all(x - x == 0 for x in tensor.data), f'{checkpoint}: {name}')

    def test_damaged_cache_is_compiled_again(self):
        args = ['generate', self.plan_path, '-n', 20, '--checkpoint', self.run_dir, '--cache-dir', self.path('cache')]
        first = run('muse-run', *args)
        self.assertIn(' and 0 from the cache', first.stderr)
        entries = glob.glob(self.path('cache', '**', '*.bin'), recursive=True)
        for i, entry in enumerate(entries):
            with open(entry, 'r+b') as f:
                if i % 3 == 0:
                    f.truncate(i % 2 * 100)
                else:
                    f.seek(300 if i % 3 == 1 else -8, os.SEEK_SET if i % 3 == 1 else os.SEEK_END)
                    f.write(b'garbage!')
        again = run('muse-run', *args)
        self.assertEqual(again.stdout, first.stdout)
        self.assertIn(' and 0 from the cache', again.stderr)
        self.assertIn('of which 0 compiled now', run('muse-run', *args).stderr)
        nowhere = run('muse-run', *args[:-1], '/dev/null')
        self.assertEqual(nowhere.stdout, first.stdout)
        self.assertIn('kernels are not kept on disk', nowhere.stderr)

    def test_damaged_checkpoints_are_passed_over(self):
        self.copy_run()
        with open(self.path('run', 'step-4', 'model.safetensors'), 'r+b') as f:
            f.truncate(1000)
        done = self.train('-o', self.path('run'), '--resume', '--json', '-n', 4)
        self.assertIn('is passed over', done.stderr)
        self.assertEqual(json.loads(done.stdout)['step'], 4)
        for state in glob.glob(self.path('run', 'step-*', 'state.json')):
            with open(state, 'w', encoding='utf-8') as f:
                f.write('{')
        self.refused('muse-run', 'train', self.plan_path, '--data', self.data, '-o', self.path('run'), '--resume',
                     says='can be used')

    def test_names_with_blanks_and_letters(self):
        folder = self.path('ein Ordner – 日本', 'x' * 200)
        os.makedirs(folder)
        plan = os.path.join(folder, "der 'Plan'.plan")
        run('musec', self.yaml, '-o', plan)
        shutil.copy(self.data + '.bin', os.path.join(folder, 'ä b.bin'))
        shutil.copy(self.data + '.idx', os.path.join(folder, 'ä b.idx'))
        out = run('muse-run', 'train', plan, '--data', os.path.join(folder, 'ä b'), '-n', 2, cwd=folder,
                  env=os.environ | {'LANG': 'ja_JP.UTF-8', 'LC_ALL': 'ja_JP.UTF-8', 'NO_COLOR': '1'}).stdout
        self.assertIn("saved in runs/der 'Plan'", out)
        self.assertTrue(os.path.isdir(os.path.join(folder, 'runs', "der 'Plan'", 'step-2')))

    def test_every_mixer_learns_and_writes(self):
        for bk, local in (('false', 'false'), ('true', 'false'), ('false', 'true'), ('true', 'true')):
            mixer = f'use_birman_schwinger={bk}', f'use_hybrid_attention={local}'
            plan, folder = self.plan(CONFIG, *mixer), self.path(f'{bk}-{local}')
            done = run('muse-run', 'train', plan, '--data', self.data, '-o', folder, '-n', 30, '--json', '-q',
                       '--learning-rate', '1e-2')
            losses = [json.loads(line)['loss'] for line in done.stdout.splitlines()]
            self.assertLess(losses[-1], losses[0] - 0.8, mixer)
            self.assertTrue(run('muse-run', 'generate', plan, '--checkpoint', folder, '-n', 50).stdout.strip())

    def refused_data(self, *args, says, status=2, **kwargs):
        return self.refused('muse-data', *args, says=says, status=status, **kwargs)

    def put(self, name, content=b'', size=None):
        with open(self.path(name), 'wb') as f:
            f.write(content)
            if size:
                f.truncate(size)  # a sparse file
        return self.path(name)

    def test_files_of_another_kind_and_size(self):
        text, out, huge = self.put('t.txt', TEXT.encode()), self.path('z'), 1 << 40
        os.symlink('loop', self.path('loop'))
        os.symlink('nowhere', self.path('dangling'))
        for made, expected in [('sparse', 'not UTF-8 text'), ('sparse.gz', 'not UTF-8 text')]:
            self.refused_data('tokenize', self.put(made, size=huge), '-o', out, says=expected)
        self.refused_data('import', self.path('sparse'), '-o', out, says='too large')
        self.refused_data('import', self.put('sparse.parquet', size=huge), '-o', out, says='no sound Parquet file')
        self.refused_data('tokenize', text, '-o', out, '-t', self.put('sparse.json', size=huge), says='larger than')
        self.refused_data('tokenize', self.path('loop'), '-o', out, says='symbolic links')
        self.refused_data('tokenize', text, '-o', self.path('loop', 'x'), says='symbolic links')
        self.refused_data('tokenize', text, '-o', self.path('dangling', 'x'), says='No such file')
        self.refused_data('tokenize', text, '-o', self.path('t.txt', 'x'), says='Not a directory')
        self.refused_data('tokenize', text, '-o', self.path('n' * 300), says='File name too long')
        self.refused_data('import', '/dev/zero', '-o', out, says='no regular file')
        self.refused_data('tokenize', '/dev/null', '-o', out, says='1 unreadable')
        self.refused_data('tokenize', self.put('u16.txt', TEXT.encode('utf-16')), '-o', out, says='not UTF-8 text')
        self.refused_data('import', self.path('u16.txt'), '-o', out, '--encoding', 'klingon', says='iconv -l')
        self.refused_data('inspect', self.data_of('odd.bin', b'x'), says='bytes instead of')
        self.refused_data('inspect', self.data_of('more.bin', b'', size=huge), says='bytes instead of')
        os.mkdir(self.path('.z.partial'))
        os.symlink(text, self.path('.z.partial', 'bin'))  # is not followed
        self.refused_data('tokenize', text, '-o', out, says='symbolic links')
        with open(text, encoding='utf-8') as f:
            self.assertEqual(f.read(), TEXT)
        self.assertFalse(glob.glob(self.path('z*')))
        for name, says, args in [('sparse.plan', 'larger than', ['generate']), ('sparse.yaml', 'larger than', ['train']),
                                 ('sparse.safetensors', 'not valid JSON', ['eval', self.plan_path, '--data', self.data, '-p'])]:
            self.refused('muse-run', *args, self.put(name, size=huge), says=says)
        self.refused('musec', self.put('u16.yaml', CONFIG.encode('utf-16')), '-o', out, says='not UTF-8')

    def data_of(self, name, more, size=None):
        """A copy of the token set whose .bin is longer."""
        shutil.copy(self.data + '.idx', self.path(name[:-4] + '.idx'))
        with open(self.data + '.bin', 'rb') as f:
            self.put(name, f.read() + more, size)
        return self.path(name[:-4])

    def test_numbers_of_muse_data(self):
        text, out = self.put('t.txt', TEXT.encode()), self.path('z')
        for option, value in [('--max-document', '99999999999999999999GB'), ('--max-document', '18446744073709551616'),
                              ('--max-document', '-1'), ('--save-interval', 'nan'), ('--save-interval', '-1'),
                              ('--max-tokens', '99999999999999999999'), ('--threads', '1e3')]:
            self.refused_data('tokenize', text, '-o', out, f'{option}={value}', says=option)
        for option, value in [('--validation', 'nan'), ('--validation', '1'), ('--max-documents', '-1')]:
            self.refused_data('import', text, '-o', out, f'{option}={value}', says=option)
        self.refused_data('import', text, '-o', out, '--validation', '0.9999999', says='--validation 0')
        self.refused_data('inspect', self.data, '-n', '99999999999', says='--documents')
        self.assertEqual(os.listdir(self.dir), ['t.txt'])

    def test_a_line_without_end_can_be_stopped(self):
        endless = self.put('endless.jsonl', size=1 << 40)
        for command in ('tokenize', 'import'):
            p = subprocess.Popen([program('muse-data'), command, endless, '-o', self.path('z')], stderr=subprocess.PIPE,
                                 text=True)
            self.addCleanup(p.kill)
            while not glob.glob(self.path('.z.*')):
                self.assertIsNone(p.poll())
            time.sleep(0.2)
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 75, err)
            self.assertEqual(os.listdir(self.dir), ['endless.jsonl'])

    def test_no_space_and_no_home(self):
        limited = ['sh', '-c', 'ulimit -f 20; exec "$@"', 'sh', program('muse-run'), 'train', self.plan_path, '--data',
                   self.data, '-o', self.path('run'), '-q', '--no-cache']
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('File too large', done.stderr)
        self.assertFalse(glob.glob(self.path('run', 'step-*')))
        env = {k: v for k, v in os.environ.items() if k not in ('HOME', 'XDG_CACHE_HOME', 'MUSE_CACHE_DIR')}
        done = run('muse-run', 'generate', self.plan_path, '-n', 2, '-q', env=env)
        self.assertIn('HOME is not set', done.stderr)
        closed = subprocess.run(['sh', '-c', 'exec "$@" >&-', 'sh', program('muse-data'), 'inspect', self.data],
                                stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((closed.returncode, closed.stderr.count('error: ')), (1, 1))


if __name__ == '__main__':
    programs.main()
