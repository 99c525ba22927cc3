#!/bin/sh
# What the app runs: a configuration of the user's own, or one made of the options.
set -eu
if [ -f /config/hardwire.yaml ]; then
  echo "the configuration is hardwire.yaml in the app's own folder; the options are not looked at"
  config=/config/hardwire.yaml
else
  hardwire app-config --options /data/options.json --output /data
  config=/data/hardwire.yaml
fi
exec hardwire run --config "$config"
