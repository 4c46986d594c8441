"""Delivery by C-STORE (PS3.4 B, PS3.7 9.1.1) over one association."""

import io
import logging
from collections.abc import Sequence
from typing import Any

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from spinepaint.destinations import StoreDestination
from spinepaint.worker.delivery_try import DeliveryFailed, Outgoing, Watch

# What it logs of a peer or a data set is not ours to vouch for.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

_SUCCESS = 0x0000
_DUPLICATE = 0x0111  # an earlier try got as far as this
_WARNINGS = (0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000))  # stored all the same (PS3.7 C.3)
_TRANSIENT = (0x0110, 0x0213, *range(0xA700, 0xA800))
_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd identifiers from 1 to 255
_REJECTED_FOR_GOOD = 1  # PS3.8 9.3.4


class StoreSender:
    """Stores instances at a DICOM node."""

    def __init__(self, destination: StoreDestination) -> None:
        """`destination` gives address and AE titles."""
        self._destination = destination
        self._named = destination.calling_ae_title

    def __call__(self, instances: Sequence[Outgoing], *, timeout_s: float, watch: Watch) -> None:
        """Send all, one after the other. Raises DeliveryFailed."""
        association = self._associate(_contexts(instances), timeout_s, watch)
        try:
            for number, instance in enumerate(instances, 1):
                watch.check()
                self._store(association, instance, f"{number} of {len(instances)}")
        except BaseException:
            association.abort()
            raise
        association.release()

    def _associate(self, contexts: list[PresentationContext], timeout_s: float, watch: Watch) -> Association:
        def connected(event: Any) -> None:
            connection = event.assoc.dul.socket.socket
            # Else a PDU that is begun and never ended is waited for without limit, by abort() too.
            connection.settimeout(timeout_s)
            watch.connected(connection)

        to = self._destination
        entity = AE(ae_title=to.calling_ae_title)
        entity.requested_contexts = contexts
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = timeout_s
        association = entity.associate(to.host, to.port, ae_title=to.ae_title, evt_handlers=[(evt.EVT_CONN_OPEN, connected)])
        if association.is_established:
            return association
        if association.is_rejected:
            primitive = association.acceptor.primitive
            for_good = getattr(primitive, "result", None) == _REJECTED_FOR_GOOD
            detail = f"It rejected the association of {to.calling_ae_title} to {to.ae_title}. Are both AE titles known there?"
            raise DeliveryFailed(detail, again=not for_good)
        if association.rejected_contexts and not association.accepted_contexts:
            raise DeliveryFailed("It accepts none of the SOP classes of the result.", again=False)
        raise DeliveryFailed("No association could be made.", again=True)

    def _store(self, association: Association, instance: Outgoing, which: str) -> None:
        dataset = dcmread(io.BytesIO(b"".join(instance.stream())))
        try:
            status = association.send_c_store(dataset)
        except ValueError:
            detail = f"It accepts no presentation context for instance {which} (SOP class {instance.sop_class_uid})."
            raise DeliveryFailed(detail, again=False) from None
        except RuntimeError:
            raise DeliveryFailed(f"The association ended before instance {which}.", again=True) from None
        code = status.get("Status")
        if code is None:
            detail = f"It ended the association without an answer to instance {which}. Does it let {self._named} store?"
            raise DeliveryFailed(detail, again=True)
        if code not in (_SUCCESS, _DUPLICATE, *_WARNINGS):
            raise DeliveryFailed(f"It refused instance {which} with status {code:04X}H.", again=code in _TRANSIENT)


def _contexts(instances: Sequence[Outgoing]) -> list[PresentationContext]:
    """A context for each SOP class and transfer syntax; what is uncompressed may be encoded either way.

    Each has one transfer syntax only: given the choice, a node takes whichever it likes, and the stored one needs no encoding.
    """
    wanted = {}
    for instance in instances:
        syntax = instance.transfer_syntax_uid
        for either in _UNCOMPRESSED if syntax in _UNCOMPRESSED else (syntax,):
            wanted[instance.sop_class_uid, either] = build_context(instance.sop_class_uid, either)
    if len(wanted) > _MOST_CONTEXTS:
        raise DeliveryFailed("The result has too many kinds of objects for one association.", again=False)
    return list(wanted.values())
