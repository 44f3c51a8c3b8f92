"""Secrets in URIs: what of them may be shown, logged and kept."""

from __future__ import annotations

import re

HIDDEN = "REDACTED"
"""Stands where a secret was: a word without a meaning in URIs, globs and shells."""

_SECRET = (
    r"x-(?:amz|goog|oss|cos|obs|ms)-[\w-]*|sig|hmac|jwt|sas|key|code|auth|pass|pwd|"
    r"[\w.-]{0,64}(?:signature|token|secret|passw|passphrase|credential|authori[sz]ation|session|"
    r"access[-_]?(?:key|id)|(?:api|private|client|account)[-_]?key)[\w.-]{0,64}"
)
_SURROUNDING = r"expires|policy|key-pair-id|s[veprsi]|st|srt|spr|sip|ses|sdd|sk\w+|s[a-z]oid"
"""What comes with a signature says by whom and when: without it of no use, and new every time."""
_SECRETS = re.compile(rf"([?&;#](?:{_SECRET})=)[^&#]*", re.IGNORECASE)
_SIGNED_SECRETS = re.compile(rf"([?&;#](?:{_SECRET}|{_SURROUNDING})=)[^&#]*", re.IGNORECASE)
_SIGNED = re.compile(r"[?&;#](?:sig|signature)=", re.IGNORECASE)
_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:A[KS]IA[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}"
    r"|eyJ[\w-]{8,512}\.[\w-]+\.?[\w-]*)"
)
"""Keys and tokens whose look gives them away: AWS, GitHub, JSON web tokens."""
# names are bounded, here as above: a hostile text must not take time by the square of its length
_SCHEME = r"[A-Za-z][\w+.-]{0,31}"
_NEXT_OF_CHAIN = re.compile(rf"::(?=(?:{_SCHEME}::){{0,7}}{_SCHEME}://)")
_REMOTE = re.compile(rf"{_SCHEME}(?:://|::)")
_URI = re.compile(rf"{_SCHEME}://")
_WORDS = re.compile(r"[^\s'\"<>]+")
_PARAMETER = re.compile(r"[?&;#][^=\s]{1,128}=")
_TOKENS_AS_USERS = ("http", "https", "webdav", "webdavs", "git", "oci")
"""Schemes whose user without a password is a token; elsewhere it may be a name or a container."""


def redacted(uri: str) -> str:
    """A URI without passwords, keys, signatures and tokens; local paths as they are.

    Chained URIs (`zip://a.parquet::https://...`) are looked through. A file that is signed anew
    keeps its redacted URI.
    """
    if not _REMOTE.match(uri):
        return uri
    return "::".join(_parameters(_userinfo(link)) for link in _NEXT_OF_CHAIN.split(uri))


def redacted_text(text: str) -> str:
    """The same for URIs in the midst of a text, e.g. a library's error.

    A URI ends at white space or a quote; punctuation at its end belongs to the text.
    """
    if not _may_hold_secrets(text):
        return text
    return _WORDS.sub(_redacted_word, text)


def _redacted_word(match: re.Match[str]) -> str:
    word = match[0]
    if not _may_hold_secrets(word):
        return word
    uri = word.rstrip(":,.)]")
    scheme = _URI.search(uri)
    start = scheme.start() if scheme else len(uri)
    # a query may come without the scheme and the host
    return _parameters(uri[:start]) + redacted(uri[start:]) + word[len(uri) :]


def _may_hold_secrets(text: str) -> bool:
    if "://" in text and "@" in text:
        return True
    return _PARAMETER.search(text) is not None or _KEYS.search(text) is not None


def _userinfo(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        userinfo, _, host = authority.rpartition("@")
        host += rest[len(authority) :]
    elif re.fullmatch(r"[^\[:]*:.*[^\d].*", authority) and "@" in rest:
        # no port: a password that holds what should have been escaped
        userinfo, _, host = rest.rpartition("@")
    else:
        return uri
    user, colon, _ = userinfo.partition(":")
    if scheme.lower() == "github":  # `github://organization:repository@branch/path`
        return uri
    if colon:
        user += f":{HIDDEN}"
    elif scheme.lower() in _TOKENS_AS_USERS:
        user = HIDDEN
    return f"{scheme}{separator}{user}@{host}"


def _parameters(text: str) -> str:
    secrets = _SIGNED_SECRETS if _SIGNED.search(text) else _SECRETS
    return _KEYS.sub(HIDDEN, secrets.sub(rf"\g<1>{HIDDEN}", text))
