"""What opam files say of licenses, as SPDX expressions.

`license:` is meant to hold SPDX expressions and often holds other words. Those become `LicenseRef-...` with the words as
their text, so that nothing is lost and nothing is guessed. Source: SPDX 2.3, annex D.
"""

from __future__ import annotations

import hashlib
import re
from typing import Dict, Iterable, List

# The identifiers of the SPDX license list that opam files use, and some that are frequent elsewhere.
_IDS = """
0BSD AFL-3.0 AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.0 Apache-1.1 Apache-2.0 Artistic-1.0 Artistic-2.0 BlueOak-1.0.0
BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 bzip2-1.0.6 CC-BY-3.0
CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 CECILL-1.0 CECILL-2.0 CECILL-2.1 CECILL-B CECILL-C curl EPL-1.0 EPL-2.0 EUPL-1.2
GPL-1.0-only GPL-1.0-or-later GPL-2.0 GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0-only GPL-3.0-or-later HPND ICU ISC LGPL-2.0
LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 LGPL-3.0-only LGPL-3.0-or-later Libpng MIT
MIT-0 MIT-CMU MPL-1.0 MPL-1.1 MPL-2.0 NCSA OFL-1.1 OpenSSL OSL-3.0 PostgreSQL PSF-2.0 Python-2.0 QPL-1.0 Ruby Unicode-DFS-2016
Unlicense UPL-1.0 W3C WTFPL X11 Zlib zlib-acknowledgement ZPL-2.1 blessing
""".split()
_EXCEPTIONS = """
OCaml-LGPL-linking-exception LGPL-3.0-linking-exception LLVM-exception Classpath-exception-2.0 GCC-exception-3.1
Autoconf-exception-3.0 Bison-exception-2.2 Font-exception-2.0 openvpn-openssl-exception
""".split()
_KNOWN = {name.lower(): name for name in _IDS}
_KNOWN_EXCEPTIONS = {name.lower(): name for name in _EXCEPTIONS}
_TOKEN = re.compile(r"[()]|[^\s()]+")


def expression(licenses: Iterable[str], references: Dict[str, str]) -> str:
    """One SPDX expression for all of `licenses`, "" for none. Enters what is no SPDX license into `references`: id -> text."""
    parts = []
    for text in licenses:
        part = _canonical(text)
        if not part:
            name = "LicenseRef-" + (re.sub(r"[^A-Za-z0-9.]+", "-", _without_prefix(text)).strip("-") or "unnamed")
            if references.setdefault(name, text) != text:  # other words, of the same letters
                name += "-" + hashlib.sha256(text.encode()).hexdigest()[:12]
                references[name] = text
            part = name
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    return " AND ".join(f"({part})" if " " in part else part for part in dict.fromkeys(parts))


def is_listed(license: str) -> bool:
    """Whether an expression is one identifier of the SPDX list, without `+` or anything around it."""
    return license in _IDS


def _without_prefix(text: str) -> str:
    return text[len("LicenseRef-") :] if text.startswith("LicenseRef-") else text


def _canonical(text: str) -> str:
    """The expression with its identifiers as the list spells them, or "" where it is none."""
    tokens = _TOKEN.findall(text)
    result: List[str] = []
    depth = 0
    want_operand = True
    exception = False
    for token in tokens:
        if exception:
            known = _KNOWN_EXCEPTIONS.get(token.lower())
            if known is None:
                return ""
            result.append(known)
            exception, want_operand = False, False
        elif token == "(" and want_operand:
            depth += 1
            result.append(token)
        elif token == ")" and not want_operand and depth:
            depth -= 1
            result.append(token)
        elif want_operand:
            plus = "+" if token.endswith("+") else ""
            known = _KNOWN.get(token[: len(token) - len(plus)].lower())
            if known is None:
                return ""
            result.append(known + plus)
            want_operand = False
        elif token.upper() in ("AND", "OR"):
            result.append(token.upper())
            want_operand = True
        elif token.upper() == "WITH":
            result.append("WITH")
            exception = True
        else:
            return ""
    if want_operand or exception or depth:
        return ""
    return " ".join(result).replace("( ", "(").replace(" )", ")")
