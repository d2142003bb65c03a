"""``python -m speechbrain_attn.cli`` is ``speechbrain-attn``."""

from speechbrain_attn.cli import main

if __name__ == "__main__":
    main()
