"""How many calls are served at a time."""


class Places:
    """Has a place for `limit` calls at a time. Nobody waits for one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Each is taken and given back in one step: no two threads get the same.
        self._free = [None] * limit

    def take(self) -> bool:
        """Take a place, to be given back; say whether there was one."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Let another have it."""
        self._free.append(None)
