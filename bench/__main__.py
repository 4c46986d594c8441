"""Run every benchmark and print one table; `--json FILE` also writes the figures."""

import argparse
import json
from pathlib import Path

from bench import dicom, gateway, inpainting, phantom, scheduler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    figures = {
        "inpaint": inpainting.measure(arguments.runs),
        "dicom": dicom.measure(arguments.runs),
        "scheduler": scheduler.measure(arguments.runs),
        "phantom": phantom.measure(arguments.runs),
        "gateway": gateway.measure(),
    }
    for name, rows in figures.items():
        print(f"\n{name}")
        for key, value in rows.items():
            print(f"  {key:<44} {value:>10.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
