"""``createQueue({prefix: 'q'})`` is ``KUE["PREFIX"]``."""

import os

import redis

from tests.app.jobs import add
from tests.app.tasks import welcome
from tests.test_kue_parity.conftest import UNSERVED


def test_every_key_begins_with_the_prefix(settings):
    # Where no worker of another test still writes:
    url = os.environ["KUE_TEST_REDIS"].removesuffix("/0") + "/9"
    settings.KUE = settings.KUE | {"PREFIX": "shop:q", "REDIS": url}
    welcome.using(queue=UNSERVED, unique=True).enqueue("tj@example.org")
    add.using(queue=UNSERVED, delay=60).enqueue(1)
    add.using(queue=UNSERVED).enqueue(1).cancel()

    keys = [key.decode() for key in redis.Redis.from_url(url).keys("*")]
    assert len(keys) >= 6
    assert [key for key in keys if not key.startswith(("shop:q:{other}:", "{shop:q}:"))] == []
