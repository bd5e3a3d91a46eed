package supervise

import "github.com/agentd/agentd/agent/config"

type policyConfig = config.Policy

func defaultPolicy() policyConfig { return config.Default().Policy }
