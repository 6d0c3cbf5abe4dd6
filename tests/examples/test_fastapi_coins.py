"""The example of a web service, asked as its clients ask it, through ASGI and without a network."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason='needs pip install "kvdialect[examples]"')
pytest.importorskip("httpx", reason="needs pip install --group programs")

import httpx

EXAMPLES = Path(__file__).parents[2] / "examples"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(EXAMPLES)
    import fastapi_coins


@pytest.fixture
def ask(url):
    """Runs ``program(client)`` with a client of the running service."""

    @asynccontextmanager
    async def service():
        app = fastapi_coins.create_app(url)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            yield client

    def ask(program):
        async def main():
            async with service() as client:
                return await program(client)

        return asyncio.run(asyncio.wait_for(main(), 60))

    return ask


def test_coins_are_made_shown_and_listed_by_pages(ask):
    """A coin made by one request is seen by the next; pages follow each other by their tokens."""

    async def program(client):
        made = [(await client.post("/coins", json={"owner": "ann", "amount": n})).json() for n in (5, 30, 10)]
        shown = await client.get(f"/coins/{made[1]['coin_id']}")
        assert shown.json() == {"coin_id": made[1]["coin_id"], "owner": "ann", "amount": 30, "spent": False}
        first = (await client.get("/owners/ann/coins", params={"limit": 2})).json()
        assert [coin["amount"] for coin in first["coins"]] == [30, 10]
        rest = (await client.get("/owners/ann/coins", params={"limit": 2, "after": first["next"]})).json()
        assert ([coin["amount"] for coin in rest["coins"]], rest["next"]) == ([5], None)

        assert (await client.get("/coins/" + "00" * 32)).status_code == 404
        assert (await client.get("/coins/xyz")).status_code == 422
        assert (await client.get("/owners/ann/coins", params={"after": "nonsense"})).status_code == 422
        assert (await client.post("/coins", json={"owner": "ann", "amount": 0})).status_code == 422

    ask(program)


def test_payments_at_once_neither_make_nor_lose_money(ask):
    """Twenty payments that want the same coins: each is done once or refused, and the sum stays."""

    async def program(client):
        for _ in range(10):
            await client.post("/coins", json={"owner": "ann", "amount": 10})
        payments = [
            client.post("/payments", json={"giver": "ann", "taker": f"t{n % 3}", "amount": 7}) for n in range(20)
        ]
        codes = [answer.status_code for answer in await asyncio.gather(*payments)]
        left = (await client.get("/owners/ann/balance")).json()["amount"]
        got = [(await client.get(f"/owners/t{n}/balance")).json() for n in range(3)]
        return codes, left, got

    codes, left, got = ask(program)
    paid = codes.count(201)
    assert set(codes) == {201, 409}
    assert sum(balance["amount"] for balance in got) == 7 * paid
    assert sum(balance["coins"] for balance in got) == paid
    assert left == 100 - 7 * paid < 7


def test_a_refused_payment_changes_nothing(ask):
    """An error in a handler's transaction leaves no coin spent."""

    async def program(client):
        await client.post("/coins", json={"owner": "ann", "amount": 10})
        refused = await client.post("/payments", json={"giver": "ann", "taker": "bob", "amount": 11})
        assert (refused.status_code, refused.json()["detail"]) == (409, "ann has 10 and not 11")
        return (await client.get("/owners/ann/balance")).json()

    assert ask(program) == {"amount": 10, "coins": 1}
