"""Small inputs for programs that are to work in a mount: made here, like real ones."""

import base64
import hashlib
import json
import os
import textwrap
import zipfile
from pathlib import Path

CONFIGURE = r"""#!/bin/sh
# In short what autoconf writes: try the compiler, fill in templates.
set -e
: "${CC:=cc}"
rm -rf conftest*
echo 'int main(void) { return 0; }' > conftest.c
$CC -o conftest conftest.c && ./conftest || { echo "the compiler fails"; exit 77; }
for header in stdint.h no_such_header.h; do
    name=HAVE_$(echo "$header" | tr 'a-z.' 'A-Z_')
    echo "#include <$header>" > conftest.c
    if $CC -c conftest.c 2>conftest.err; then
        echo "#define $name 1" >> confdefs.h
    else
        echo "/* #undef $name */" >> confdefs.h
    fi
    rm -f conftest*
done
if ln conftest_no_such conftest2 2>/dev/null; then exit 78; fi
echo x > conftest.file
LN=$(ln conftest.file conftest.link 2>/dev/null && echo ln || echo 'cp -p')
[ conftest.link -nt conftest.file ] && exit 79
rm -f conftest*
if ! cmp -s confdefs.h config.h; then mv confdefs.h config.h; else rm confdefs.h; fi
sed -e "s|@CC@|$CC|" -e "s|@LN@|$LN|" < Makefile.in > Makefile
cat > config.status <<EOF
#!/bin/sh
exec ./configure
EOF
chmod +x config.status
echo "configured; linking with $LN"
"""

MAKEFILE = r"""
objects = main.o part.o
all: program alias
program: $(objects)
	@CC@ -o $@ $(objects)
	@echo linked
alias: program
	rm -f $@ && @LN@ program $@
%.o: %.c %.d
	@CC@ -c -o $@ $<
	@echo compiled $<
%.d: %.c
	@CC@ -MM $< | sed 's|:| $@:|' > $@
-include main.d part.d
install: all
	install -d $(DESTDIR)/bin $(DESTDIR)/share
	install -m 755 -s program $(DESTDIR)/bin/program
	ln -sf program $(DESTDIR)/bin/other
	install -p -m 644 part.h $(DESTDIR)/share/part.h
clean:
	rm -f program alias *.o *.d
"""

C_SOURCES = {
    "part.h": "int part(int);\n",
    "part.c": '#include "part.h"\nint part(int n) { return n + 1; }\n',
    "main.c": """\
        #include <stdio.h>
        #include "config.h"
        #include "part.h"
        #ifndef HAVE_STDINT_H
        #error "configure found no stdint.h"
        #endif
        #ifdef HAVE_NO_SUCH_HEADER_H
        #error "configure found what is not there"
        #endif
        int main(void) { printf("%d\\n", part(41)); return 0; }
    """,
}


def make_c_project(path: Path) -> Path:
    """Make a C program with a configure script and a Makefile."""
    path.mkdir()
    for name, text in C_SOURCES.items():
        (path / name).write_text(textwrap.dedent(text))
    (path / "Makefile.in").write_text(MAKEFILE)
    (path / "configure").write_text(CONFIGURE)
    (path / "configure").chmod(0o755)
    return path


def make_wheel(directory: Path) -> Path:
    """Make a wheel of one package that has a command, and some modules."""
    files = {f"sample/module_{n}.py": f"value = {n}\n" for n in range(30)}
    files["sample/__init__.py"] = (
        "def main():\n    from sample import module_7\n    print(module_7.value)\n"
    )
    info = "sample-1.0.dist-info"
    files[f"{info}/METADATA"] = "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: tests\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = "[console_scripts]\nsample = sample:main\n"
    record = [_recorded(name, text) for name, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    path = directory / "sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def _recorded(name: str, text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"{name},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},"


def make_node_modules(path: Path, *, files: int) -> int:
    """Make a tree as npm does: packages with their own ones, and links in .bin.

    Returns the number of links.
    """
    links = 0
    for number in range(files // 10):
        scope = f"@scope-{number % 5}/" if number % 3 == 0 else ""
        package = path / "node_modules" / f"{scope}package-{number}"
        (package / "lib" / "deep").mkdir(parents=True)
        manifest = {"name": package.name, "bin": {package.name: "cli.sh"}}
        (package / "package.json").write_text(json.dumps(manifest))
        (package / "cli.sh").write_text(
            '#!/bin/sh\ncat "$(dirname "$(readlink -f "$0")")/lib/deep/f-6.js"\n'
        )
        (package / "cli.sh").chmod(0o755)
        for file in range(8):
            where = package / "lib" / ("deep" if file > 5 else "")
            (where / f"f-{file}.js").write_text(f"// {number} {file}\n" * (file + 1))
        bin = path / "node_modules" / ".bin"
        bin.mkdir(exist_ok=True)
        (bin / f"package-{number}").symlink_to(os.path.relpath(package / "cli.sh", bin))
        links += 1
    return links
