"""What LangChain sees of an API: `langchain_client.py BASE_URL MODEL`. Prints one JSON object."""

import json
import sys

from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@tool
def weather(days: int) -> str:
    """The weather of the next days."""
    return f"{days} days of rain"


base, model = sys.argv[1:]
chat = ChatOpenAI(model=model, base_url=f"{base}/v1", api_key="none", max_tokens=12, max_retries=0, stream_usage=True)
embeddings = OpenAIEmbeddings(
    model=model, base_url=f"{base}/v1", api_key="none", check_embedding_ctx_length=False, max_retries=0
)
messages = ChatAnthropic(model=model, base_url=base, api_key="none", max_tokens=12, max_retries=0)

plain = chat.invoke("hello there")
pieces = list(chat.stream("hello there"))
called = chat.bind_tools([weather], tool_choice="any").invoke("the weather?")
try:
    ChatOpenAI(model="nosuch", base_url=f"{base}/v1", api_key="none", max_retries=0).invoke("hello")
    unknown = ""
except Exception as error:  # noqa: BLE001  its class is what is compared
    unknown = type(error).__name__

print(
    json.dumps(
        {
            "plain": plain.content,
            "streamed": "".join(piece.content for piece in pieces),
            "tokens": plain.usage_metadata["total_tokens"],
            "tool": [call["name"] for call in called.tool_calls],
            "messages": messages.invoke("hello there").content,
            "vectors": [len(vector) for vector in embeddings.embed_documents(["one", "two"])],
            "unknown": unknown,
        }
    )
)
