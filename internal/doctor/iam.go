package doctor

import (
	"encoding/json"
	"slices"
	"strings"
)

// decision is the decision of policies about an action on a resource.
type decision int

const (
	implicitDeny decision = iota // no statement allows it
	allowed                      // a statement allows it, and none denies it
	explicitDeny                 // a statement denies it
	conditional                  // it depends on a condition that is not evaluated here
)

// evaluatePolicies evaluates the documents of a role's policies, without Condition, NotAction and NotResource.
func evaluatePolicies(documents []string, action, resource string) decision {
	return evaluate(documents, func(s *policyStatement) (covers, sure bool) { return s.covers(action, resource) })
}

// evaluateKeyPolicy evaluates the policy of a key for a role. Statements about the account do not count:
// they leave the decision to the policies of the role.
func evaluateKeyPolicy(document, role, action, key string) decision {
	return evaluate([]string{document}, func(s *policyStatement) (covers, sure bool) {
		covers, sure = s.covers(action, key)
		if len(s.NotPrincipal) > 0 {
			return covers, false
		}
		return covers && (slices.Contains(s.Principal, role) || slices.Contains(s.Principal, "*")), sure
	})
}

func evaluate(documents []string, about func(*policyStatement) (covers, sure bool)) decision {
	var allows, mayAllow, denies, mayDeny bool
	for _, document := range documents {
		var policy struct{ Statement oneOrMore[policyStatement] }
		if json.Unmarshal([]byte(document), &policy) != nil {
			mayAllow = true
			continue
		}
		for _, s := range policy.Statement {
			covers, sure := about(&s)
			if !covers {
				continue
			}
			deny := s.Effect == "Deny"
			allows = allows || !deny && sure
			mayAllow = mayAllow || !deny && !sure
			denies = denies || deny && sure
			mayDeny = mayDeny || deny && !sure
		}
	}
	switch {
	case denies:
		return explicitDeny
	case allows && !mayDeny:
		return allowed
	case allows || mayAllow:
		return conditional
	}
	return implicitDeny
}

type policyStatement struct {
	Effect                                   string
	Action, NotAction, Resource, NotResource oneOrMore[string]
	Condition                                json.RawMessage
	Principal, NotPrincipal                  principals // of a key's policy
}

// principals are the users, roles and accounts that a statement names; * means everyone.
type principals []string

// UnmarshalJSON reads "*", or an object with the principals by kind.
func (p *principals) UnmarshalJSON(b []byte) error {
	if string(b) == `"*"` {
		*p = principals{"*"}
		return nil
	}
	var kinds struct{ AWS oneOrMore[string] }
	err := json.Unmarshal(b, &kinds)
	*p = principals(kinds.AWS)
	return err
}

// covers reports whether the statement is about the action on the resource, and whether that is certain.
func (s *policyStatement) covers(action, resource string) (covers, sure bool) {
	acts := len(s.NotAction) > 0 || slices.ContainsFunc(s.Action, func(pattern string) bool {
		return matches(strings.ToLower(pattern), strings.ToLower(action))
	})
	touches := len(s.NotResource) > 0 || slices.ContainsFunc(s.Resource, func(pattern string) bool { return matches(pattern, resource) })
	return acts && touches, len(s.NotAction)+len(s.NotResource)+len(s.Condition) == 0
}

// matches reports whether a pattern with * and ? matches the whole text. It backtracks to the last star only:
// once a star is reached, an earlier one never has to match more.
func matches(pattern, text string) bool {
	p, t := 0, 0
	star, taken := -1, 0 // position of the last star, and the end of the text that it matches
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, taken = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			taken++
			p, t = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// oneOrMore is a JSON array, or a single element without the array.
type oneOrMore[T any] []T

// UnmarshalJSON reads either.
func (o *oneOrMore[T]) UnmarshalJSON(b []byte) error {
	if strings.HasPrefix(string(b), "[") {
		return json.Unmarshal(b, (*[]T)(o))
	}
	*o = make([]T, 1)
	return json.Unmarshal(b, &(*o)[0])
}
