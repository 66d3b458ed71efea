#!/usr/bin/env python3
"""What `meson install` puts in place works there. Usage: test_install.py MESON BUILD_FOLDER PREFIX PROGRAM..."""
import os
import subprocess
import sys
import tempfile
import unittest

MESON, BUILD, PREFIX = sys.argv[1:4]
PROGRAMS = sys.argv[4:]
del sys.argv[1:]


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        subprocess.run([MESON, 'install', '-C', BUILD, '--no-rebuild', '--destdir', cls.folder.name],
                       check=True, capture_output=True, timeout=120)
        cls.root = os.path.join(cls.folder.name, PREFIX.lstrip('/'))

    def run_installed(self, program, *arguments):
        return subprocess.run([os.path.join(self.root, 'bin', program), *arguments], capture_output=True, text=True,
                              timeout=120, check=True, cwd='/').stdout

    def read(self, *path):
        with open(os.path.join(self.root, *path), encoding='utf-8') as f:
            return f.read()

    def test_programs_with_manual_page_and_completions(self):
        for program in PROGRAMS:
            self.assertRegex(self.run_installed(program, '--version'), rf'^{program} \d')
            for form, path in [('man', f'share/man/man1/{program}.1'), ('zsh', f'share/zsh/site-functions/_{program}'),
                               ('bash', f'share/bash-completion/completions/{program}.bash'),
                               ('fish', f'share/fish/vendor_completions.d/{program}.fish')]:
                self.assertEqual(self.read(path), self.run_installed(program, '--help=' + form))

    def test_nothing_of_the_tests_is_installed(self):
        self.assertEqual(set(os.listdir(os.path.join(self.root, 'bin'))), set(PROGRAMS))

    def test_a_moved_tree_compiles_and_generates_code(self):
        config = os.path.join(self.root, 'share/muse/configs/muse-tiny.yaml')
        plan = os.path.join(self.folder.name, 'tiny.plan')
        self.run_installed('musec', config, '-o', plan)
        self.assertGreater(os.path.getsize(plan), 1000)
        # The code generator is the loadable module, which must be the installed one.
        self.assertIn('define', self.run_installed('musec', config, '--emit=llvm'))

    def test_from_data_to_a_config_in_an_empty_folder(self):
        """The installed programs know their configs and data sets, and say what comes next without make."""
        with tempfile.TemporaryDirectory() as folder:
            data, run = (os.path.join(self.root, 'bin', name) for name in ('muse-data', 'muse-run'))
            call = lambda *arguments: subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True, cwd=folder).stdout
            with open(os.path.join(folder, 'text.txt'), 'w', encoding='utf-8') as f:
                f.write('a text of few words. ' * 1000)
            self.assertIn('cosmopedia', call(data, 'fetch', '--list'))
            call(data, 'tokenize', 'text.txt', '-o', 'data/mine')
            for size, compress in (('tiny', False), ('1b', True)):
                said = call(data, 'recipe', '--preset', 'balanced', '--config', size, '--tokens', '1M', '--yes', '--force')
                init = ' --init checkpoints/start' if compress else ''
                train = f'  {run} train configs/my_{size}.yaml{init} --data configs/dataset_mixing.yaml -o runs/my_{size}\n'
                self.assertTrue(said.endswith(train), said)
                self.assertEqual(f'  {run} compress configs/my_{size}.yaml -o checkpoints/start\n' in said, compress)
                self.assertNotIn('make ', said)
                call(os.path.join(self.root, 'bin', 'musec'), '--check', f'configs/my_{size}.yaml')

    def test_documents(self):
        for name in ['configuration.md', 'files.md', 'model.md']:
            self.assertTrue(self.read('share/doc/muse', name).startswith('# '))


if __name__ == '__main__':
    unittest.main()
