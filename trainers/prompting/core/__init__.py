"""A frozen CLIP with prompt tokens: torch and OpenAI's `clip`, no Dassl, no yacs."""
