"""Random templates, for template_differential.py."""

VARIABLES = {
    "s": "Hello, Wörld! 東京 😀",
    "t": "  two  words\n\tand 'quotes' \"here\" & <b> ",
    "e": "",
    "digits": "-12_3",
    "word": "ǅungla ΣΑΣ ß İi ŉ",
    "n": 7,
    "z": 0,
    "m": -3,
    "f": 2.5,
    "g": -0.1,
    "big": 1e22,
    "yes": True,
    "no": False,
    "nothing": None,
    "l": [3, 1, 2],
    "words": ["b", "A", "c", "a", "B"],
    "empty": [],
    "mixed": [1, "a", None, 2.0, [1, 2], {"k": "v"}],
    "d": {"b": 1, "a": [1, {"x": "ü"}], "C": None, "items": "shadow"},
    "people": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25, "tags": []},
               {"name": "Cid", "age": 30}],
    "messages": [{"role": "system", "content": "Be kind. "},
                 {"role": "user", "content": [{"type": "text", "text": "Hi <|im_end|>"}]},
                 {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes", "tool_calls": [
                     {"function": {"name": "f", "arguments": {"a": 1, "b": "ü\n"}}}]},
                 {"role": "tool", "content": None}],
}
NAMES = list(VARIABLES) + ["undefined_name"]
TEXTS = ["a", "b", " ", "", "\\n", "l", "Hello", "ö", ", ", "%s", "%d|%5.2f", "{}", "{0!r:>5}", "x y z", "<b>", "abcabc", "-"]
FILTERS = ["abs", "capitalize", "count", "default('x')", "d('y', true)", "dictsort", "dictsort(by='value')", "escape", "first",
           "float", "float(1.5)", "format(n)", "format(s, 2)", "indent", "indent(2, true)", "indent('> ', blank=true)", "int",
           "int(5)", "int(base=16)", "items", "join", "join(', ')", "join('-', attribute='name')", "last", "length", "list",
           "lower", "map('upper')", "map('string')", "map(attribute='name')", "map(attribute='age', default=0)", "max", "min",
           "max(attribute='age')", "reject('odd')", "rejectattr('tags')", "replace('a', 'ä')", "replace('l', '', 1)", "reverse",
           "round", "round(1)", "round(1, 'floor')", "safe", "select", "select('string')", "select('equalto', 1)",
           "selectattr('age', 'gt', 26)", "selectattr('tags')", "sort", "sort(reverse=true)", "sort(attribute='age,name')",
           "sort(case_sensitive=true)", "string", "sum", "sum(attribute='age')", "title", "tojson", "tojson(indent=2)",
           "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))", "tojson(sort_keys=true, indent=1)", "trim", "trim('H!')",
           "truncate(9)", "truncate(5, true, '')", "unique", "upper", "wordcount", "batch(2)", "batch(2, 'z')", "slice(2)",
           "slice(2, 0)", "groupby('age')", "center(20)", "urlencode", "attr('real')", "filesizeformat", "forceescape"]
TESTS = ["defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping",
         "sequence", "iterable", "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "lower", "upper", "sameas none",
         "in l", "in [1, 'a']", "in s", "eq 7", "equalto 'a'", "ne 1", "gt 2", "ge 2.5", "lt n", "le 0", "escaped", "filter", "test"]
METHODS = ["upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "strip('Ho! ')", "lstrip()",
           "rstrip('\\n ')", "split()", "split(' ')", "split(' ', 1)", "split('o', 2)", "rsplit(None, 1)", "rsplit(' ', 1)",
           "splitlines()", "splitlines(true)", "startswith('He')", "endswith(('x', '!'))", "startswith('l', 2)", "find('o')",
           "rfind('l')", "index('l')", "count('l')", "replace('l', 'L', 1)", "replace('', '.')", "partition(' ')",
           "rpartition('o')", "join(['x', 'y'])", "join(words)", "center(30, '*')", "ljust(12, '.')", "rjust(12)", "zfill(8)",
           "isdigit()", "isalpha()", "isalnum()", "isspace()", "istitle()", "isupper()", "islower()", "isidentifier()",
           "isprintable()", "isnumeric()", "isdecimal()", "isascii()", "removeprefix('He')", "removesuffix('!')", "expandtabs(4)",
           "format(1, 2)", "format(*l)", "format(n, name=2)", "get('a')", "get('zz', 5)", "items()", "keys()",
           "values()", "copy()", "index(1)", "count(1)", "append(1)", "pop()", "update({})", "bit_length()", "is_integer()",
           "a", "b", "name", "items", "content", "0", "real", "__class__", "_x"]
OPERATORS = ["+", "+", "-", "*", "/", "//", "%", "**", "~", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]


class Templates:
    def __init__(self, random, evaluates):
        """`evaluates` tells whether an expression has a value: most of those that are used have."""
        self.random = random
        self.evaluates = evaluates

    def one_of(self, things):
        return self.random.choice(things)

    def chance(self, probability):
        return self.random.random() < probability

    def text(self):
        return repr(self.one_of(TEXTS)).replace("\\\\", "\\") if self.chance(0.9) else '"\\u00e9\\x41\\t\\\'"'

    def number(self):
        return self.one_of(["0", "1", "2", "3", "10", "-1", "1.5", "0.1", "1e3", "100", "0x1F", "1_000", "2.0", "5"])

    def atom(self, depth, names):
        kind = self.random.random()
        if kind < 0.55:
            return self.one_of(names)
        if kind < 0.7:
            return self.text()
        if kind < 0.82:
            return self.number()
        if kind < 0.88:
            return self.one_of(["true", "false", "none", "True", "None"])
        if depth <= 0:
            return self.one_of(names)
        items = [self.expression(depth - 1, names) for _ in range(self.random.randrange(4))]
        if kind < 0.94:
            return "[" + ", ".join(items) + "]"
        if kind < 0.97:
            return "{" + ", ".join(f"{self.text()}: {item}" for item in items) + "}"
        return "(" + ", ".join(items) + ",)" if items else "()"

    def index(self, depth, names):
        kind = self.random.random()
        if kind < 0.4:
            return self.one_of(["0", "1", "-1", "5", "'a'", "'name'", "'items'", "n", "-10"])
        if kind < 0.85:
            parts = [self.one_of(["", "1", "-1", "2", "0", "-2", "10", "m"]) for _ in range(2)]
            step = self.one_of(["", "", ":", ":2", ":-1", ":-2", ":3"])
            return parts[0] + ":" + parts[1] + step
        return self.expression(depth - 1, names)

    def expression(self, depth, names):
        for _ in range(6):
            expression = self.any_expression(depth, names)
            if self.chance(0.03) or self.evaluates(expression):
                break
        return expression

    def any_expression(self, depth, names):
        if depth <= 0:
            return self.atom(0, names)
        kind = self.random.random()
        inner = lambda: self.expression(depth - 1, names)  # noqa: E731
        if kind < 0.2:
            return self.atom(depth, names)
        if kind < 0.4:
            return f"{self.operand(depth, names)} | {self.one_of(FILTERS)}"
        if kind < 0.55:
            return f"{self.operand(depth, names)}.{self.one_of(METHODS)}"
        if kind < 0.63:
            return f"{self.operand(depth, names)}[{self.index(depth, names)}]"
        if kind < 0.7:
            return f"{self.operand(depth, names)} is {'not ' if self.chance(0.3) else ''}{self.one_of(TESTS)}"
        if kind < 0.9:
            left, right = inner(), inner()
            if self.chance(0.4):
                left, right = f"({left})", f"({right})"
            chained = f" {self.one_of(OPERATORS)} {inner()}" if self.chance(0.2) else ""
            return f"{left} {self.one_of(OPERATORS)} {right}{chained}"
        if kind < 0.94:
            return f"({inner()} if {inner()}" + (f" else {inner()})" if self.chance(0.8) else ")")
        return f"{self.one_of(['not ', '-', '+'])}({inner()})"

    def operand(self, depth, names):
        if self.chance(0.7):
            return self.one_of(names)
        return f"({self.expression(depth - 1, names)})"

    def words(self):
        return self.one_of(["a", " ", "\n", "  \n", "\n  ", "text\n", "\t", "x\n\n", "", "{ }", "é", "%}", "\r\n", "#"])

    def tag(self, inside):
        begin = self.one_of(["{%", "{%", "{%-", "{%-", "{%+"])
        end = self.one_of(["%}", "%}", "-%}", "-%}", "+%}"])
        return f"{begin} {inside} {end}"

    def printed(self, expression):
        return f"{self.one_of(['{{', '{{', '{{-'])} {expression} {self.one_of(['}}', '}}', '-}}'])}"

    def statement(self, depth, names, in_loop):
        kind = self.random.random()
        expression = lambda d=2: self.expression(d, names)  # noqa: E731
        if depth <= 0 or kind < 0.35:
            return self.printed(expression(3))
        body = lambda extra=(), loop=in_loop: self.body(depth - 1, names + list(extra), loop)  # noqa: E731
        if kind < 0.45:
            other = self.tag("elif " + expression()) + body() if self.chance(0.3) else ""
            other += self.tag("else") + body() if self.chance(0.5) else ""
            return self.tag("if " + expression()) + body() + other + self.tag("endif")
        if kind < 0.6:
            target, extra = self.one_of([("i", ["i"]), ("k, v", ["k", "v"]), ("i", ["i"])])
            source = self.one_of(names) + self.one_of(["", "", "", ".items()", "|items", "|reverse", "|sort"])
            condition = f" if {expression(1)}" if self.chance(0.2) else ""
            extra = extra + [f"loop.{self.one_of(['index', 'index0', 'first', 'last', 'length', 'revindex', 'previtem', 'nextitem', 'depth'])}"
                             for _ in range(2)] + ["loop.cycle('o', 'e')", "loop.changed(i)"][:self.random.randrange(3)]
            other = self.tag("else") + body() if self.chance(0.3) else ""
            return self.tag(f"for {target} in {source}{condition}") + body(extra, True) + other + self.tag("endfor")
        if kind < 0.74:
            name = self.one_of(["x", "y", "n", "s", "i"])
            return self.tag(f"set {name} = {expression()}") + self.printed(name) + self.printed(self.one_of(["x", "y", "i"]))
        if kind < 0.78:
            return (self.tag("set ns = namespace(a=1, b='q')") + self.tag(f"set ns.a = {expression()}") + body(["ns.a"])
                    + self.printed("ns.a ~ ns.b ~ ns.c"))
        if kind < 0.84:
            name = self.one_of(["p", "q"])
            parameters = self.one_of(["", "a", "a, b=2", "a=n, b=a", "a, caller=none"])
            arguments = self.one_of(["", "1", "s, t", "b=3", "a=1, b=n", "*l", "1, 2, 3", "a=1, z=2"])
            use = self.one_of(["", "varargs", "kwargs", "caller", "caller()"])
            call = self.printed(f"{name}({arguments})")
            if self.chance(0.3):
                call = self.tag(f"call {name}({arguments})") + body() + self.tag("endcall")
            shown = self.printed(use) if use else ""
            return self.tag(f"macro {name}({parameters})") + body(["a", "b"], False) + shown + self.tag("endmacro") + call
        if kind < 0.87:
            return self.tag(f"set x{self.one_of(['', '|upper', '|trim|length'])}") + body() + self.tag("endset") + self.printed("x")
        if kind < 0.9:
            name = self.one_of(["upper", "trim", "replace('a', 'b')|upper", "indent(2)"])
            return self.tag("filter " + name) + body() + self.tag("endfilter")
        if kind < 0.93:
            return self.tag(f"with y = {expression()}, w = 2") + body(["y", "w"]) + self.tag("endwith")
        if kind < 0.95:
            return self.one_of(["{# c #}", "{#- c -#}", "{# c #}\n", "{#\n-#}"])
        if kind < 0.97:
            return self.tag("raw") + "{{ x }} {% y" + self.tag("endraw")
        if in_loop:
            return self.tag(f"if {expression(1)}") + self.tag(self.one_of(["break", "continue"])) + self.tag("endif")
        return self.tag("for i in people recursive") + self.printed("i.name or i") + self.printed(
            "loop(i.tags) if i.tags else loop.depth") + self.tag("endfor")

    def body(self, depth, names, in_loop):
        parts = []
        for _ in range(self.random.randrange(1, 4)):
            parts += [self.words(), self.statement(depth, names, in_loop)]
        return "".join(parts) + self.words()

    def template(self):
        return self.body(self.random.randrange(1, 5), NAMES, False)
