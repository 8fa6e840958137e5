"""``createQueue({prefix: 'q'})`` is ``KUE["PREFIX"]``."""

from tests.app.jobs import add
from tests.app.tasks import welcome
from tests.conftest import redis_client
from tests.test_kue_parity.conftest import UNSERVED


def test_every_key_begins_with_the_prefix(settings):
    settings.KUE = settings.KUE | {"PREFIX": "shop:q"}
    welcome.using(queue=UNSERVED, unique=True).enqueue("tj@example.org")
    add.using(queue=UNSERVED, delay=60).enqueue(1)
    add.using(queue=UNSERVED).enqueue(1).cancel()

    keys = [key.decode() for key in redis_client().keys("*")]
    assert len(keys) >= 6
    assert [key for key in keys if not key.startswith(("shop:q:{other}:", "{shop:q}:"))] == []
