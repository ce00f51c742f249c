from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Account(_message.Message):
    __slots__ = ("owner", "balance", "is_open")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    IS_OPEN_FIELD_NUMBER: _ClassVar[int]
    owner: str
    balance: int
    is_open: bool
    def __init__(self, owner: _Optional[str] = ..., balance: _Optional[int] = ..., is_open: bool = ...) -> None: ...

class OpenAccount(_message.Message):
    __slots__ = ("owner", "opening_balance")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OPENING_BALANCE_FIELD_NUMBER: _ClassVar[int]
    owner: str
    opening_balance: int
    def __init__(self, owner: _Optional[str] = ..., opening_balance: _Optional[int] = ...) -> None: ...

class Deposit(_message.Message):
    __slots__ = ("amount",)
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    amount: int
    def __init__(self, amount: _Optional[int] = ...) -> None: ...

class Withdraw(_message.Message):
    __slots__ = ("amount",)
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    amount: int
    def __init__(self, amount: _Optional[int] = ...) -> None: ...

class CloseAccount(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AccountOpened(_message.Message):
    __slots__ = ("owner",)
    OWNER_FIELD_NUMBER: _ClassVar[int]
    owner: str
    def __init__(self, owner: _Optional[str] = ...) -> None: ...

class MoneyDeposited(_message.Message):
    __slots__ = ("amount",)
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    amount: int
    def __init__(self, amount: _Optional[int] = ...) -> None: ...

class MoneyWithdrawn(_message.Message):
    __slots__ = ("amount",)
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    amount: int
    def __init__(self, amount: _Optional[int] = ...) -> None: ...

class AccountClosed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
