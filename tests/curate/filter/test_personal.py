"""Personal data and secrets are found where they are, and numbers that only look like them are left alone."""

import pytest

from troth.curate.filter.credentials import credentials, entropy, is_random
from troth.curate.filter.edits import apart, make
from troth.curate.filter.personal import is_iban, is_luhn, is_public_address, personal_data
from troth.curate.filter.words import Words

KEY = "k3J9xQ2mZ8vT5wRb7LpN4cYh"


def replaced(text: str) -> str:
    words = Words(text)
    return make(text, apart([*credentials(words), *personal_data(words)]))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Write to jane.doe+news@mail.example.org today.", "Write to <EMAIL> today."),
        ("Call (212) 555-0187 or 212-555-0187.", "Call <PHONE> or <PHONE>."),
        ("From abroad +44 20 7946 0958, please.", "From abroad <PHONE>, please."),
        ("Tel. 030 901820, ask for Ms Brandt", "Tel. <PHONE>, ask for Ms Brandt"),
        ("The request came from 81.92.203.77 at noon.", "The request came from <IP_ADDRESS> at noon."),
        ("Card 4111 1111 1111 1111 was charged.", "Card 4111 1111 1111 1111 was charged."),
        ("Card 4539 1488 0343 6467 was charged.", "Card <CARD_NUMBER> was charged."),
        ("Pay to DE89 3704 0044 0532 0130 00 soon.", "Pay to <IBAN> soon."),
        ("Pay to GB29NWBK60161331926819 soon.", "Pay to <IBAN> soon."),
        ("SSN 219-09-9999 is known.", "SSN <SOCIAL_SECURITY_NUMBER> is known."),
    ],
)
def test_personal_data_gives_way_to_placeholders(text, clean):
    assert replaced(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "The years 1990-2000 and 2010-2020 were warm.",
        "The town has 1,234,567 people on 12 345 678 square metres.",
        "See section 4.2.1.3 of version 10.0.0.1, or 192.168.178.20.",
        "ISBN 978-3-16-148410-0 and pi is 3.14159265358979.",
        "The index fell from 12345.67 to 12000.12 on 2024-03-01 at 12:30:45.",
        "Numbers such as 1234 5678 9012 3456 fail the check.",
        "A date, 01/02/2003, and a ratio, 1:1000000.",
        "He tweeted @home and the array a[0]@b.",
        "table 234 567 8901 345 678 9012",
    ],
)
def test_other_numbers_stay(text):
    assert replaced(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAZ7KQ3VYB5TGN2WMD",
        "ghp_" + "a8Kd73hQp0" * 4,
        "xoxb-2847362910-Kd83hfKq02mS",
        "AIza" + "Sy8dK3lQ-9fV" * 2 + "0pL4mN7xZ2b",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.Kd83hfKq02mSxY",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow9kd8\nd83kDf==\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_of_known_forms_go(secret):
    assert replaced(f"token: {secret} .") == "token: <SECRET> ."


def test_assigned_random_values_are_secrets_and_names_are_not():
    assert replaced(f'api_key = "{KEY}"') == 'api_key = "<SECRET>"'
    assert replaced(f"password: {KEY}") == "password: <SECRET>"
    for plain in (
        'api_key = "your-api-key-goes-here-123"', "secret = os.environ['MY_SECRET_NAME_2024']", f"sha = {KEY}",
        "token = tokenizer.convert_tokens_to_ids", "password = correct-horse-battery-staple",
    ):  # fmt: skip
        assert replaced(plain) == plain


def test_what_the_ledger_shows_does_not_give_the_secret_away():
    (edit,) = credentials(Words(f"api_key={KEY}"))
    assert KEY not in edit.shown
    assert edit.shown == "k3… (24 characters)"


def test_checksums():
    assert not is_luhn("4539148803436468")
    assert is_luhn("4539148803436467")
    assert is_iban("GB29NWBK60161331926819")
    assert not is_iban("GB29NWBK60161331926818")
    assert is_public_address("81.92.203.77")
    assert not is_public_address("10.92.203.77")
    assert not is_public_address("300.92.203.77")
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
    assert is_random(KEY)
