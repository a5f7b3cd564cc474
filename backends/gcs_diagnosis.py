"""What a store of Google Cloud Storage tells `mountfs doctor`."""

import os
from collections.abc import Mapping, Sequence

import google.auth
from google.auth.exceptions import GoogleAuthError

from mountfs.backends.gcs_client import GcsClient, Reply
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_options import GcsOptions, parse_options, split_url
from mountfs.storage.diagnosis import Address, Deed, Diagnosis, Finding, State
from mountfs.storage.errors import StoreError

_NEEDS: Mapping[Deed, str] = {
    Deed.LIST: "storage.objects.list",
    Deed.STAT: "storage.objects.get",
    Deed.READ: "storage.objects.get",
    Deed.WRITE: "storage.objects.create",
    Deed.COPY: "storage.objects.get and storage.objects.create",
    Deed.DELETE: "storage.objects.delete",
    Deed.MULTIPART: "storage.objects.create",
    Deed.ABORT: "storage.objects.delete",
}


def open_diagnosis(url: str, options: Mapping[str, object]) -> Diagnosis:
    """Return what tells of the store at a URL; nothing is sent."""
    return GcsDiagnosis(KeySpace(*split_url(url)), parse_options(options))


class GcsDiagnosis:
    """Tells of one bucket."""

    def __init__(self, keys: KeySpace, options: GcsOptions) -> None:
        self._keys = keys
        self._options = options
        self._client = GcsClient(options)

    @property
    def needs(self) -> Mapping[Deed, str]:
        """The permissions of Google's IAM."""
        return _NEEDS

    def address(self) -> Address | None:
        """Return the endpoint."""
        return Address(self._options.endpoint_url)

    def credentials(self) -> Finding:
        """Tell which of the Application Default Credentials there are."""
        if self._options.no_sign_request:
            return Finding("credentials", State.OK, "none are sent")
        try:
            found, _ = google.auth.default()
        except GoogleAuthError:
            return Finding(
                "credentials",
                State.FAIL,
                "there are no Application Default Credentials",
                "run `gcloud auth application-default login`",
            )
        kind = type(found).__module__.rpartition(".")[2]
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        place = f"the file {named}" if named else "where gcloud or this machine has it"
        who = getattr(found, "service_account_email", "")
        name = f" of {who}" if isinstance(who, str) and "@" in who else ""
        return Finding("credentials", State.OK, f"{kind}{name}, from {place}")

    async def bucket(self) -> Sequence[Finding]:
        """Ask for versioning, soft delete, retention and the life cycle."""
        name = "bucket settings"
        try:
            about = await self._client.call("GET", f"/storage/v1/b/{self._keys.bucket}")
        except StoreError:
            text = "the credentials may not look at them (a mount need not)"
            return [Finding(name, State.SKIP, text)]
        return _settings(about) or [Finding(name, State.OK, "nothing that costs")]

    def policy(self, *, read_only: bool) -> str:
        """Return the roles, as commands that give them."""
        role = "objectViewer" if read_only else "objectUser"
        lines = [
            f"gcloud storage buckets add-iam-policy-binding gs://{self._keys.bucket}"
            f" --member=MEMBER --role=roles/storage.{role}"
        ]
        if self._keys.root:
            name = f"projects/_/buckets/{self._keys.bucket}/objects/{self._keys.root}"
            lines[0] += (
                " --condition='title=mountfs,expression="
                f'resource.name.startsWith("{name}")'
                ' || resource.type == "storage.googleapis.com/Bucket"\''
            )
        if self._options.kms_key is not None:
            lines.append(
                f"gcloud kms keys add-iam-policy-binding {self._options.kms_key}"
                " --member=serviceAccount:SERVICE_AGENT_OF_THE_BUCKET"
                " --role=roles/cloudkms.cryptoKeyEncrypterDecrypter"
            )
        if self._options.events is not None:
            lines.append(
                "gcloud pubsub subscriptions add-iam-policy-binding"
                f" {self._options.events} --member=MEMBER"
                " --role=roles/pubsub.subscriber"
            )
        return "\n".join(lines)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._client.close()


def _settings(about: Reply) -> list[Finding]:
    found: list[Finding] = []
    if about.get("versioning", {}).get("enabled"):
        text = "on: each save keeps the old bytes, and they are paid for"
        cure = "add a lifecycle rule with numNewerVersions or daysSinceNoncurrentTime"
        found.append(Finding("versioning", State.WARN, text, cure))
    days = int(about.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    if days := days // 86400:
        text = f"what is replaced is kept for {days} days, and paid for"
        cure = "take soft delete off the bucket, if many files change"
        found.append(Finding("soft delete", State.WARN, text, cure))
    if about.get("retentionPolicy"):
        text = "files cannot be changed or removed before it ends"
        cure = "mount with --read-only, or use another bucket"
        found.append(Finding("retention", State.WARN, text, cure))
    rules = about.get("lifecycle", {}).get("rule", ())
    if any(rule.get("action", {}).get("type") == "Delete" for rule in rules):
        text = "a rule deletes objects behind the mount's back"
        cure = "see that it matches old versions or left-over parts alone"
        found.append(Finding("lifecycle", State.WARN, text, cure))
    return found
