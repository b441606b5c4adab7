"""A clock and a sleep that a test holds in its hand."""


class HandClock:
    """Both clocks; `sleep` moves them, and notes for how long."""

    def __init__(self, now_s=1000.0):
        self.now_s = now_s
        self.slept = []

    def monotonic_s(self):
        return self.now_s

    def wall_ms(self):
        return int(self.now_s * 1000)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds

    async def sleep_async(self, seconds):
        self.sleep(seconds)
