"""ThingsBoard's tb-rest-client, unchanged: an owner signs in, claims by name, and gives the device back."""

import os

from tb_rest_client.models import ClaimRequest
from tb_rest_client.rest_client import RestClient

with RestClient(base_url=f"http://{os.environ['HTTP']}") as client:
    client.login(username=os.environ["EMAIL"], password=os.environ["PASSWORD"])
    result = client.claim_device_by_name(os.environ["DEVICE"], body=ClaimRequest(secret_key="s3cret"))
    response = result["response"] if isinstance(result, dict) else getattr(result, "response", result)
    print("claimed", response)
    client.re_claim_device(os.environ["DEVICE"])
    print("released")
