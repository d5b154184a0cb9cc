"""A real OpenLDAP server of the tests' own: its configuration and data in one directory, on a free port of loopback."""

from __future__ import annotations

import socket
import subprocess

from tests.integration.real_server import RealServer

ADMIN = "cn=admin,dc=example,dc=org"
PASSWORD = "s3cret"
BASE = "ou=people,dc=example,dc=org"

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/pid
disallow bind_anon
require authc
database mdb
suffix "dc=example,dc=org"
rootdn "{admin}"
rootpw {password}
directory {directory}/data
maxsize 10485760
dbnosync
access to * by dn.exact="{admin}" read by * auth
"""
_TOP = """\
dn: dc=example,dc=org
objectClass: domain
dc: example

dn: {base}
objectClass: organizationalUnit
ou: people

"""


class RealSlapd(RealServer):
    """`with RealSlapd({"alice": ["alice@example.org"]}) as slapd: … slapd.port …`: mail attributes by uid, the first one leading."""

    def __init__(self, people: dict[str, list[str]]) -> None:
        super().__init__("slapd")
        (self._directory / "data").mkdir()
        config = self._directory / "slapd.conf"
        config.write_text(_CONFIG.format(directory=self._directory, admin=ADMIN, password=PASSWORD))
        entries = _TOP.format(base=BASE)
        for uid, addresses in people.items():
            entries += f"dn: uid={uid},{BASE}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\n"
            entries += "".join(f"mail: {one}\n" for one in addresses[:1])
            entries += "".join(f"description: smtp:{one}\n" for one in addresses) + "\n"
        add = ["/usr/sbin/slapadd", "-q", "-f", str(config)]
        done = subprocess.run(add, input=entries.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def launch(self) -> subprocess.Popen[bytes]:
        """In the foreground, with its log at stderr."""
        where = ["-h", f"ldap://{self.host}:{self.port}", "-f", str(self._directory / "slapd.conf"), "-d", "256"]
        return self.in_own_group(["/usr/sbin/slapd", *where])

    def log(self) -> str:
        """What it said."""
        return self._said()

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 0.2):
                return True
        except OSError:
            return False
