"""Just enough understanding of C for the checks beside this file: it reads the project's own,
formatted sources, not any C. A file is turned into tokens with their lines; from those come its
functions, their parameters, and how deep and how long they are."""

import os
import re
import sys
from collections import namedtuple

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

Token = namedtuple("Token", "text line")
Function = namedtuple("Function", "name line length parameters nesting")

COMMENT_OR_LITERAL = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""",
    re.DOTALL | re.VERBOSE,
)
DIRECTIVE = re.compile(r"^[ \t]*\#(?:\\\n|[^\n])*", re.MULTILINE)
TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|->|\.\.\.|[^\s\w]")
CONTROL = ("if", "for", "while", "switch")
# A switch whose cases are all this short reads as a table.
FLAT_CASE_LINES = 6


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def without_comments(text):
    """The text with comments blanked out; lines stay where they are."""

    def replace(match):
        return blank(match) if match.group().startswith("/") else match.group()

    return COMMENT_OR_LITERAL.sub(replace, text)


def code_only(text):
    """The text with comments and the insides of literals blanked out."""

    def replace(match):
        found = match.group()
        return blank(match) if found[0] == "/" else found[0] + " " * (len(found) - 2) + found[0]

    return COMMENT_OR_LITERAL.sub(replace, text)


def tokens_of(text):
    """Tokens without comments, literals' insides and preprocessor lines."""
    text = DIRECTIVE.sub(blank, code_only(text))
    found, line, at = [], 1, 0
    for match in TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        found.append(Token(match.group(), line))
    return found


def closing(tokens, at):
    """The place of the bracket that closes the one at `at`."""
    depth = 0
    for place in range(at, len(tokens)):
        if tokens[place].text in "({[":
            depth += 1
        elif tokens[place].text in ")}]":
            depth -= 1
            if depth == 0:
                return place
    raise ValueError(f"line {tokens[at].line}: a bracket is not closed")


class Body:
    """Walks the statements of one function.

    A level of nesting is a control statement whose body is a block or again a control statement;
    `if (x) return;` is none. An else-if chain is one level. Lines of a switch with short cases
    only, and lines of an initialiser in braces, do not count into a function's length."""

    def __init__(self, tokens, start, end):
        self.tokens = tokens
        self.nesting = 0
        self.exempt = 0
        at = start + 1
        while at < end:
            at = self.statement(at, 0)

    def text(self, at):
        return self.tokens[at].text

    def is_control(self, at):
        """Whether a control statement starts here; an upper-case name as in LIST_EACH (...) too."""
        word = self.text(at)
        if word in CONTROL or word == "do":
            return True
        if not re.fullmatch(r"[A-Z][A-Z0-9_]+", word) or self.text(at + 1) != "(":
            return False
        following = self.text(closing(self.tokens, at + 1) + 1)
        return following == "{" or following[0].isalpha()

    def statement(self, at, level):
        """Reads one statement; where the next one starts."""
        word = self.text(at)
        if word == "{":
            end = closing(self.tokens, at)
            at += 1
            while at < end:
                at = self.statement(at, level)
            return end + 1
        if word in ("case", "default") or (self.text(at + 1) == ":" and word[0].isalpha()):
            while self.text(at) != ":":
                at += 1
            return at + 1
        if self.is_control(at):
            return self.control(at, level)
        return self.simple(at)

    def simple(self, at):
        """An expression or a declaration, up to its semicolon; a macro may come without one."""
        while self.text(at) != ";":
            if self.text(at) == "}":
                return at
            if self.text(at) in "({[":
                end = closing(self.tokens, at)
                if self.text(at) == "{":
                    self.exempt += self.tokens[end].line - self.tokens[at].line
                at = end
            at += 1
        return at + 1

    def control(self, at, level):
        word = self.text(at)
        if word == "do":
            return self.simple(self.inner(at + 1, level))
        after = closing(self.tokens, at + 1) + 1
        end = self.inner(after, level)
        if word == "switch":
            self.exempt += self.flat_switch_lines(after, end - 1)
        if word == "if" and end < len(self.tokens) and self.text(end) == "else":
            if self.text(end + 1) == "if":
                return self.control(end + 1, level)
            return self.inner(end + 1, level)
        return end

    def inner(self, at, level):
        """The body of a control statement."""
        if self.text(at) == "{" or self.is_control(at):
            level += 1
            self.nesting = max(self.nesting, level)
        return self.statement(at, level)

    def flat_switch_lines(self, start, end):
        """How many lines the block of a switch has if all its cases are short, else 0."""
        marks, depth = [], 0
        for token in self.tokens[start : end + 1]:
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if depth == 1 and token.text in ("case", "default"):
                marks.append(token.line)
        marks.append(self.tokens[end].line)
        longest = max((b - a for a, b in zip(marks, marks[1:])), default=0)
        whole = self.tokens[end].line - self.tokens[start].line
        return whole if longest <= FLAT_CASE_LINES else 0


def count_parameters(tokens):
    """How many parameters stand between these brackets."""
    if [one.text for one in tokens[1:-1]] in ([], ["void"]):
        return 0
    depth, count = 0, 1
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        count += token.text == "," and depth == 1
    return count


def function_at(tokens, head, brace):
    """The function whose head starts at `head` and whose body opens at `brace`; None if the brace
    opens a struct, an enum or an initialiser."""
    names = [
        at
        for at in range(head, brace)
        if tokens[at].text == "(" and re.fullmatch(r"[A-Za-z_]\w*", tokens[at - 1].text)
    ]
    names = [at for at in names if tokens[at - 1].text not in ("__attribute__", "_Alignas")]
    if not names or any(one.text == "=" for one in tokens[head:brace]):
        return None
    opening, end = names[0], closing(tokens, brace)
    body = Body(tokens, brace, end)
    length = tokens[end].line - tokens[head].line + 1 - body.exempt
    parameters = count_parameters(tokens[opening : closing(tokens, opening) + 1])
    return Function(tokens[opening - 1].text, tokens[head].line, length, parameters, body.nesting)


def functions_of(text):
    """The functions that a file defines."""
    tokens = tokens_of(text)
    found, head, at = [], 0, 0
    while at < len(tokens):
        if tokens[at].text == ";":
            head = at + 1
        elif tokens[at].text == "{":
            function = function_at(tokens, head, at)
            at = closing(tokens, at)
            if function is not None:
                found.append(function)
                head = at + 1
        at += 1
    return found


def source_files():
    """The paths of all C files, relative to the top."""
    found = []
    for folder in ("src", "include", "tests"):
        for path, folders, files in os.walk(os.path.join(TOP, folder)):
            folders.sort()
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    found.append(os.path.relpath(os.path.join(path, name), TOP))
    return found


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


def main(judge, cases):
    """The command of a check. `judge(path, text)` gives complaints as (line, text); `cases` are
    (path, text, words of the one complaint or None) for --self-test."""
    if sys.argv[1:] == ["--self-test"]:
        for path, text, expected in cases:
            said = [complaint for _, complaint in judge(path, text)]
            right = not said if expected is None else len(said) == 1 and expected in said[0]
            if not right:
                sys.exit(f"self-test: {path}: {text!r}: wanted {expected!r}, got {said}")
        return
    if len(sys.argv) != 1:
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} [--self-test]")
    bad = 0
    for path in source_files():
        for line, complaint in judge(path, read(path)):
            print(f"{path}:{line}: {complaint}")
            bad += 1
    sys.exit(1 if bad else 0)
