"""What a profile's looks are counted for."""

from bench.profile import ELSE, parts

_SERVE = "_serve (/x/service_kit/call_pool.py:80)"
_CALL = "serve (/x/service_kit/interceptors/calls.py:150)"
_ADD = "add (/x/order_service/storage/orders.py:103)"
_EXECUTE = "execute (/x/site-packages/psycopg/cursor.py:97)"
_DUMPS = "dumps (/usr/lib/python3.11/json/__init__.py:200)"


class TestALook:
    def test_counts_for_the_innermost_frame(self) -> None:
        assert parts([f"{_SERVE};{_CALL};{_ADD};{_EXECUTE} 7"]) == {"PostgreSQL's driver": 7}

    def test_in_no_part_counts_for_whoever_called(self) -> None:
        assert parts([f"{_SERVE};{_CALL};{_DUMPS} 2"]) == {"caller, limits, line, metrics": 2}

    def test_in_the_history_counts_for_it_and_not_for_storage(self) -> None:
        history = "_link (/x/order_service/storage/audit.py:61)"
        assert parts([f"{_SERVE};{_ADD};{history} 1"]) == {"history and its seals": 1}

    def test_outside_of_everything_counts_too(self) -> None:
        assert parts([f"{_DUMPS} 1", "main (/x/other.py:1) 2"]) == {ELSE: 3}

    def test_is_added_to_others_of_its_part(self) -> None:
        assert parts([f"{_ADD} 1", f"{_CALL};{_ADD} 2"]) == {"statements, rows, transactions": 3}
