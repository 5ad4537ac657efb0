"""What can be done to a lane by the processes that share it, step by step at random."""

import random

from sluice import control
from sluice.events import Expired, Held, Idempotency, Interrupted, KeysExpired, Outcome
from sluice.ingestion import Ingestion
from sluice.models import Priority
from tests.postgres_process import INTERVAL, Process, pass_time
from tests.shared_database import fresh_database

STEPS = [
    *["accept"] * 6,
    *["start"] * 6,
    *["finish"] * 6,
    "take over",
    "cancel",
    "reprioritise",
    "revive",
    "pause",
    "resume",
    "hold",
    "expire",
    "forget keys",
    "sweep",
    "sever",
]


class Fleet:
    """Two processes of one lane, and what can be done by either of them."""

    def __init__(self, seed: int, aging: float | None, fills_slots: bool) -> None:
        self.random = random.Random(seed)
        self.aging, self.fills_slots = aging, fills_slots
        self.url = fresh_database()
        self.processes = [self.process(100.0), self.process(7000.0)]
        self.dispatcher = self.processes[0]

    def process(self, boot: float, passed: float = 0.0) -> Process:
        """Start one more process, with what all of them are set to."""
        return Process(self.url, boot, passed=passed, aging=self.aging, fills_slots=self.fills_slots)

    async def step(self, step: str) -> None:  # noqa: PLR0912 - one case a step
        process = self.random.choice(self.processes)
        lane, dispatcher = process.lane, self.dispatcher.lane
        await process.journal.catch_up()
        now = self.dispatcher.machine.now()
        match step:
            case "accept":
                key = Idempotency(str(self.random.random()), b"digest") if self.random.random() < 0.3 else None
                # Often so few that several fit into a slot.
                ids = range(1, self.random.choice([2, 3, self.random.randint(2, 12)]))
                await process.accept(ids, self.random.choice(list(Priority)), idempotency=key)
            case "start":
                pass_time(self.url, INTERVAL, *self.processes)
                await self.dispatcher.journal.catch_up()
                is_idle = dispatcher.running is None and dispatcher.paused is None
                if is_idle and dispatcher.next_batches(self.dispatcher.machine.now()):
                    await self.dispatcher.start()
            case "finish":
                if dispatcher.running:
                    await self.dispatcher.finish(
                        *(
                            self.outcome(dispatcher.ingestions[part.ingestion_id], position, now)
                            for part in dispatcher.running.parts
                            for position in part.positions
                        )
                    )
            case "take over":
                self.dispatcher = process
                await process.journal.take()
                await lane.decide(lambda: [Interrupted(process.machine.now())] if lane.running else [])
            case "pause":
                await lane.decide(lambda: control.pause(lane, process.database.clock.time(), "a reason"))
            case "resume":
                await lane.decide(lambda: control.resume(lane))
            case "hold":
                await dispatcher.decide(lambda: [Held(now + self.random.random() * 10, "429")])
            case "forget keys":
                await dispatcher.decide(lambda: [KeysExpired(self.dispatcher.database.clock.time() - 20.0)])
            case "sweep":
                await self.dispatcher.journal.sweep()
            case "sever":
                await process.database.leave()
            case _ if lane.ingestions:
                await self.change(step, process, self.random.choice(list(lane.ingestions.values())))

    async def change(self, step: str, process: Process, ingestion: Ingestion) -> None:
        lane, time = process.lane, process.database.clock.time()
        match step:
            case "cancel":
                await lane.decide(lambda: control.cancel(ingestion, time))
            case "reprioritise" if not ingestion.is_done:
                await lane.decide(lambda: control.reprioritise(ingestion, self.random.choice(list(Priority))))
            case "revive" if next(ingestion.failures(), None) is not None:
                await lane.decide(lambda: control.revive(ingestion))
            case "expire" if ingestion.is_done:
                await lane.decide(lambda: [Expired(ingestion.ingestion_id)])

    def outcome(self, ingestion: Ingestion, position: int, now: float) -> Outcome:
        before = ingestion.troubles[position].attempts if position in ingestion.troubles else 0
        match self.random.randrange(3 if ingestion.gives_up else 4):
            case 0:
                return Outcome(position, before + 1, error="answered 404")
            case 3:
                return Outcome(position, before + 1, error="answered 500", retry_at=now + self.random.random() * 20)
            case _:
                return Outcome(position, before + 1, data=b'{"a": 1}')
