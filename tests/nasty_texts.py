"""Texts that have broken programs before: what they would do if somebody believed them."""

from typing import Final

# To a database that is spoken to in sentences.
SQL: Final = (
    "' OR '1'='1",
    "'; DROP TABLE orders; --",
    "x' UNION SELECT payment_token FROM payments --",
    '"; DELETE FROM payments; --',
    "1); UPDATE orders SET status = 'paid'; --",
    "\\'; SELECT pg_sleep(10); --",
    "%' ESCAPE '",
    "$$; COMMIT; $$",
)

# To a log that is read by lines, by a terminal, or by a program.
LOG: Final = (
    "x\n" + '{"event":"rpc","code":"OK","caller":"root"}',
    "x\r\nlevel=error",
    "\x1b[2J\x1b[31mall is lost\x1b[0m",
    '"},{"event":"forged"',
    "\u2028{}\u2029",
    "\x85next line",
    "\x00",
    "\N{RIGHT-TO-LEFT OVERRIDE}txet",
    "\N{RIGHT-TO-LEFT ISOLATE}txet\N{POP DIRECTIONAL ISOLATE}",
    "\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}\N{ARABIC LETTER MARK}",
)

# To whoever makes text of text.
FORMAT: Final = (
    "%s%s%s%n",
    "{0.__class__.__mro__}",
    "{call.principal}",
    "${jndi:ldap://127.0.0.1/a}",
    "$(reboot)",
    "`reboot`",
    "../../../../etc/passwd",
    "<script>alert(1)</script>",
    "__proto__",
)

# To whoever counts, compares or changes characters.
CHARACTERS: Final = (
    "",
    " ",
    "\t",
    "\N{ZERO WIDTH JOINER}",
    "\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER SHARP S}\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",
    "\N{BANANA}" * 64,
    "\U0010ffff",
    "\ufeff",
    "\ufffe",
    "n" * 64,
    "n" * 65,
    "n" * 256,
    "n" * 257,
    "n" * 1025,
    "n" * 2049,
    "null",
    "-1",
    "1e309",
    "NaN",
)

TEXTS: Final = (*SQL, *LOG, *FORMAT, *CHARACTERS)
