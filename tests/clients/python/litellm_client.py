"""What LiteLLM sees of an API, by its OpenAI, vLLM and Anthropic providers: `litellm_client.py BASE_URL MODEL`.

Prints one JSON object.
"""

import json
import sys

import litellm

litellm.telemetry = False
base, model = sys.argv[1:]
messages = [{"role": "user", "content": "hello there"}]
openai = {"api_base": f"{base}/v1", "api_key": "none", "max_tokens": 12, "num_retries": 0}

plain = litellm.completion(f"openai/{model}", messages, **openai)
hosted = litellm.completion(f"hosted_vllm/{model}", messages, **openai)
anthropic = litellm.completion(f"anthropic/{model}", messages, api_base=base, api_key="none", max_tokens=12)
streamed = litellm.completion(
    f"openai/{model}", messages, stream=True, stream_options={"include_usage": True}, **openai
)
text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
embedded = litellm.embedding(f"openai/{model}", ["one", "two"], api_base=f"{base}/v1", api_key="none")
try:
    litellm.completion("openai/nosuch", messages, **openai)
    unknown = ""
except litellm.exceptions.NotFoundError as error:
    unknown = type(error).__name__

print(
    json.dumps(
        {
            "plain": plain.choices[0].message.content,
            "hosted": hosted.choices[0].message.content,
            "anthropic": anthropic.choices[0].message.content,
            "streamed": text,
            "tokens": plain.usage.total_tokens,
            "vectors": [len(each["embedding"]) for each in embedded.data],
            "unknown": unknown,
        }
    )
)
