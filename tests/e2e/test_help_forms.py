#!/usr/bin/env python3
"""Manual pages and completions: well-formed, and complete. Usage: test_help_forms.py PROGRAM..."""
import os
import re
import shutil
import subprocess
import sys
import unittest

PROGRAMS = [os.path.abspath(path) for path in sys.argv[1:]]
del sys.argv[1:]
OPTION = re.compile(r'^ {2}(?:-(\w), | {4})--([a-z0-9-]+)(?: (\S+))?', re.M)
COMMAND = re.compile(r'^ {2}([a-z]+) +\S', re.M)


def run(*command, text=None, expect=0):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == expect, f'{command}: exit code {done.returncode}, not {expect}: {done.stderr}'
    return done.stdout, done.stderr


def commands_of(program):
    """The commands of a program; [] for a program without any."""
    head, found, tail = run(program, '--help')[0].partition('\nCommands:\n')
    return COMMAND.findall(tail) if found else []


def options_of(program, *command):
    """(letter, name, argument) of each option in the help text; '' for what is not there."""
    options = OPTION.findall(run(program, *command, '--help')[0])
    assert any(name == 'help' for _, name, _ in options), f'{program} {command} --help lists no options'
    return options


def parts_of(program):
    """{command: options}; the key is None for a program without commands."""
    commands = commands_of(program)
    return {c: options_of(program, c) for c in commands} if commands else {None: options_of(program)}


def form(program, name):
    text, errors = run(program, '--help=' + name)
    assert errors == '', errors
    return text


class HelpForms(unittest.TestCase):
    def each(self, name):
        return [(os.path.basename(program), form(program, name), parts_of(program)) for program in PROGRAMS]

    def test_manual_pages_name_everything(self):
        for program, page, parts in self.each('man'):
            commands = page.partition('.SH COMMANDS\n')[2].partition('\n.SH ')[0] + '\n'
            sections = re.split(r'^\.SS (.*)$', commands, flags=re.M)
            text = {name.replace('\\-', '-'): body for name, body in zip(sections[1::2], sections[2::2])}
            for command, options in parts.items():
                body = text[command] if command else page
                for letter, name, argument in options:
                    row = '\\fB\\-\\-' + name.replace('-', '\\-') + '\\fR'
                    row = (f'\\fB\\-{letter}\\fR, ' if letter else '') + row
                    row += ' \\fI' + argument.replace('-', '\\-') + '\\fR' if argument else ''
                    self.assertEqual(body.count(f'.TP\n{row}\n'), 1, f'{program} {command} --{name}')
            self.assertIn(f'.TH "{program.upper()}" 1 ', page)
            self.assertIn('\n.B 75\n', page)

    def test_manual_pages_are_well_formed(self):
        checkers = 0
        for _, page, _ in self.each('man'):
            if shutil.which('mandoc'):
                checkers += 1
                found = [line for line in run_lint(page) if 'missing date' not in line]
                self.assertEqual(found, [])
            if shutil.which('groff'):
                checkers += 1
                self.assertEqual(run('groff', '-man', '-Tascii', '-ww', '-z', text=page)[1], '')
        if not checkers:
            self.skipTest('there is neither mandoc nor groff')

    def test_bash_completes_commands_and_options(self):
        for program, script, parts in self.each('bash'):
            run('bash', '-n', text=script)
            function = '_' + program.replace('-', '_')

            def complete(*words):
                quoted = ' '.join(f"'{word}'" for word in words)
                ask = f'''COMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}\n{function}\nprintf '%s ' "${{COMPREPLY[@]}}"\n'''
                return run('bash', '-u', text=script + ask)[0].split()

            if None not in parts:
                self.assertEqual(set(complete(program, '')), set(parts) | {'--help', '--version'})
            for command, options in parts.items():
                before = [program] + ([command] if command else [])
                words = {'--' + name for _, name, _ in options}
                self.assertEqual(set(complete(*before, '--')), words)
                letters = {'-' + letter for letter, _, _ in options if letter}
                self.assertEqual(set(complete(*before, '-')), words | letters)
                self.assertEqual(complete(*before, 'nothing'), [])
                for letter, name, argument in options:  # behind an option with an argument stand files, no options
                    self.assertEqual(bool(complete(*before, '--' + name, '-')), not argument)
                    if letter:
                        self.assertEqual(bool(complete(*before, '-' + letter, '-')), not argument)

    def test_zsh_has_all_options(self):
        for program, script, parts in self.each('zsh'):
            self.assertTrue(script.startswith(f'#compdef {program}\n'))
            if shutil.which('zsh'):
                run('zsh', '-n', text=script)
            pieces = re.split(r'^  ([a-z]+)\)\n', script, flags=re.M)
            bodies = dict(zip(pieces[1::2], pieces[2::2])) if None not in parts else {None: script}
            self.assertEqual(set(bodies), set(parts))
            for command, options in parts.items():
                for letter, name, argument in options:
                    row = f'{{-{letter}+,--{name}=}}' if argument else f'{{-{letter},--{name}}}'
                    row = row + "'[" if letter else f"--{name}=[" if argument else f'--{name}['
                    self.assertEqual(bodies[command].count(row), 1, f'{program} {command} --{name}')

    def test_fish_has_all_options(self):
        for program, script, parts in self.each('fish'):
            if shutil.which('fish'):
                run('fish', '--no-execute', text=script)
            for command, options in parts.items():
                head = f'complete -c {program}'
                if command:
                    self.assertIn(f'{head} -f -n __fish_use_subcommand -a {command} -d ', script)
                    head += f" -n '__fish_seen_subcommand_from {command}'"
                for letter, name, argument in options:
                    row = f'{head} -l {name}' + (f' -s {letter}' if letter else '') + (' -r' if argument else '') + ' -d '
                    self.assertEqual(script.count(row), 1, row)

    def test_other_forms_are_refused(self):
        for program in PROGRAMS:
            commands = commands_of(program)
            errors = run(program, *commands[:1], '--help=html', expect=2)[1]
            self.assertIn('man, bash, zsh or fish', errors)


def run_lint(page):
    done = subprocess.run(['mandoc', '-Tlint'], input=page, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()


if __name__ == '__main__':
    assert PROGRAMS, 'name at least one program'
    unittest.main()
